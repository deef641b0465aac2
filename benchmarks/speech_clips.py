"""The speech that engines are given by benchmarks. Importing this loads no inference library."""

from functools import cache

import numpy as np

from server.audio.decode import Samples, open_audio
from server.transcript import SAMPLE_RATE, Span, Window
from tests.support.bad_inputs import DATA

SPEECH = DATA / "two_minutes.mp3"
TEN_MINUTES = DATA / "ten_minutes.ogg"


@cache
def speech() -> Samples:
    """Two minutes of speech, 16 kHz mono."""
    with SPEECH.open("rb") as file, open_audio(file, limit_s=float("inf")) as blocks:
        return np.concatenate(list(blocks))


def clips(count: int, seconds: float) -> list[Samples]:
    """`count` different pieces of speech."""
    sound, length = speech(), round(seconds * SAMPLE_RATE)
    starts = np.linspace(0, len(sound) - length, count).astype(int)
    return [sound[start : start + length] for start in starts]


def window_of(samples: Samples, index: int = 0) -> Window:
    return Window(index, (Span(0, len(samples)),), samples=samples.tobytes())


def floats_of(samples: Samples) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """As faster-whisper takes them."""
    return samples.astype(np.float32) / np.float32(32768)
