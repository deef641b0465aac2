"""faster-whisper, the reference that results are compared with, given the same spectrogram as ours."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor

from server.audio.mel import log_mel, mel_filters
from tests.conftest import window_of

Floats = npt.NDArray[np.float32]


def reference_of(folder: Path) -> WhisperModel:
    """faster-whisper with the model in `folder`, computing as `Whisper` does on a CPU with one thread."""
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    share_spectrogram(model)
    return model


def share_spectrogram(model: WhisperModel) -> None:
    """Let faster-whisper decode from our spectrogram in place of its own.

    BLAS sums its spectrogram in an order that depends on the CPU, on the number of threads and on the recording's
    length. It equals ours but for the last bits (tests/audio/test_mel.py), which int8 can make a time token's 0.02
    s of, or another language of silence. So both get ours, and all that follows must be equal.
    """
    model.feature_extractor = _SharedSpectrogram(**model.feat_kwargs)


class _SharedSpectrogram(FeatureExtractor):  # type: ignore[misc]  # has no types
    def __call__(self, waveform: Floats, padding: int = 160, chunk_length: int | None = None) -> Floats:
        samples = (waveform * 32768).astype(np.int16)
        features = log_mel(window_of(samples), mel_filters(len(self.mel_filters)))
        # It takes a last frame for the silence it has appended, and decodes it with nothing but the language. Zero
        # is what both fill windows up with.
        return np.pad(features, ((0, 0), (0, 1)))


def as_floats(samples: npt.NDArray[np.int16]) -> Any:
    """Samples as faster-whisper takes them."""
    return samples.astype(np.float32) / 32768
