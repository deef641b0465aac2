"""faster-whisper's own decoding of a file, for comparisons with it."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import faster_whisper.audio
import numpy as np
from numpy.typing import NDArray


class _Av:
    """PyAV as faster-whisper 1.2.1 calls it: with an argument that PyAV 19 has dropped."""

    def __getattr__(self, name: str) -> Any:
        return getattr(av, name)

    def open(self, file: str, *, mode: str, metadata_errors: str) -> Any:
        return av.open(file, mode="r")


def decode_audio(path: Path) -> NDArray[np.float32]:
    """The whole file at 16 kHz, mono, between -1 and 1."""
    with patch.object(faster_whisper.audio, "av", _Av()):
        samples: NDArray[np.float32] = faster_whisper.audio.decode_audio(str(path))
    return samples
