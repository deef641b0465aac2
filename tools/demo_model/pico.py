"""SVOX pico through its program, which tells no times."""

import subprocess
import tempfile
from pathlib import Path

from tools.demo_model.speech import Speech, read_wav


def say(text: str, locale: str, speed: int, pitch: int) -> Speech:
    """Speak in a locale such as en-US; speed and pitch in percent."""
    marked = f'<speed level="{speed}"><pitch level="{pitch}">{text}</pitch></speed>'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = ["pico2wave", "-l", locale, "-w", str(path), marked]
        subprocess.run(command, check=True)  # noqa: S603 - a fixed command
        return Speech(read_wav(path)).trimmed()
