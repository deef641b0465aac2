"""Takes the pictures of the page that the README shows, light and dark, from a real transcription.

    python -m scripts.picture_page --models-dir ~/.cache/sotto/models

Joins sentences of tests/data to a recording, has a server on a free port transcribe it on its page in Chromium, and
seeks into it. Writes docs/page-light.png and docs/page-dark.png.
"""

import argparse
import os
import shutil
import tempfile
import wave
from pathlib import Path

import numpy as np
from faster_whisper.audio import decode_audio
from playwright.sync_api import Page, sync_playwright

from tests.support.bad_inputs import DATA
from tests.support.serving import ROOT, serving

NAME = "notes.wav"
SENTENCES = (
    "en_13.wav en_06.wav en_18.flac en_00.wav noisy_20db.flac en_08.wav en_04.wav en_09.wav en_16.ogg en_11.wav"
    " en_17.webm en_07.wav"
).split()
PAUSE_S = 0.6
RATE = 16_000
VIEWPORT = {"width": 960, "height": 835}
SCALE = 1.5
THEMES = ("light", "dark")
TRANSCRIBED_MS = 300_000
SEEK = """async seconds => {
    const audio = document.querySelector(".reading audio");
    audio.currentTime = seconds;
    if (audio.seeking) await new Promise(resolve => audio.addEventListener("seeked", resolve, {once: true}));
}"""

TO_THE_TOP = """() => {
    window.scrollTo(0, 0);
    for (const each of document.querySelectorAll(".reading *")) each.scrollTop = 0;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--models-dir", type=Path, required=True, help="the folder that holds the model")
    parser.add_argument("--seek", type=float, default=4.4, help="the second at which it is read along (4.4)")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where the pictures go (docs)")
    args = parser.parse_args()
    command = shutil.which("chromium") or shutil.which("google-chrome")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # as root it has none
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(model=args.model, models_dir=args.models_dir) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=command, args=sandbox)
        page = browser.new_page(viewport=VIEWPORT, device_scale_factor=SCALE)  # type: ignore[arg-type]
        page.goto(server.base_url)
        page.set_input_files("#files", [joined(Path(folder) / NAME)])
        page.locator('article[data-state="done"]').wait_for(timeout=TRANSCRIBED_MS)
        page.evaluate(SEEK, args.seek)
        for theme in THEMES:
            take(page, theme, args.folder / f"page-{theme}.png")
        browser.close()


def joined(path: Path) -> Path:
    """`SENTENCES` with pauses between them, as a WAV."""
    pause = np.zeros(int(PAUSE_S * RATE), np.float32)
    samples = np.concatenate([part for name in SENTENCES for part in (decode_audio(str(DATA / name)), pause)])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def take(page: Page, theme: str, path: Path) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    page.evaluate(TO_THE_TOP)
    page.screenshot(path=path, animations="disabled")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
