"""Whisper models of real dimensions that always answer the same, and the speech they are given. Offline."""

import json
from functools import cache
from pathlib import Path

import numpy as np

from server.audio.decode import Samples, open_audio
from server.transcript import SAMPLE_RATE, Span, Window
from tests.support.bad_inputs import DATA
from tests.support.scripted import DEMO, Script, build

SPEECH = DATA / "two_minutes.mp3"
TEN_MINUTES = DATA / "ten_minutes.ogg"
MIN_WORD = 5  # characters: short ones are often parts of others


def model_folder(cache: Path, size: str, *, tokens: int, end_s: float, quantization: str = "int8") -> Path:
    """A model that says `tokens` tokens of text between 0 and `end_s`, built into `cache` unless it is there."""
    folder = cache / f"{size}-{tokens}-{quantization}"
    if not (folder / "preprocessor_config.json").exists():  # which is written last
        build(folder, size, script=Script(words(tokens), end_s), quantization=quantization)
    return folder


def words(count: int) -> str:
    """Different words of one token each: text that repeats itself would be tried again at other temperatures."""
    vocabulary: dict[str, int] = json.loads((DEMO / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    ranked = sorted(vocabulary, key=vocabulary.__getitem__)
    plain = (word[1:] for word in ranked if word.startswith("Ġ") and len(word) > MIN_WORD)
    return " ".join([word for word in plain if word.isascii() and word.islower() and word.isalpha()][:count])


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
