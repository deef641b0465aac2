"""What a synthesiser says, with the times it tells; shared by espeak.py, flite.py, festival.py and pico.py.

Samples are float32 at int16's scale, 16 kHz; times are seconds.
"""

import wave
from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.voices import Audio, Phone, Span

MARGIN_SAMPLES = SAMPLE_RATE // 50
SILENCE_SHARE = 0.02
SILENCE_LEVEL = 40

# The phone set of flite's and festival's American voices, in espeak-ng's names; pauses have none.
RADIO_PHONES = {
    "iy": "i:",
    "ih": "I",
    "eh": "E",
    "ae": "a",
    "aa": "A:",
    "ao": "O:",
    "ah": "V",
    "ax": "@",
    "uh": "U",
    "uw": "u:",
    "er": "3:",
    "ey": "eI",
    "ay": "aI",
    "oy": "OI",
    "aw": "aU",
    "ow": "oU",
    "th": "T",
    "dh": "D",
    "sh": "S",
    "zh": "Z",
    "ch": "tS",
    "jh": "dZ",
    "ng": "N",
    "hh": "h",
    "y": "j",
    "pau": "",
    "brth": "",
    "h#": "",
}

SpokenWord = tuple[str, float, float]
"""A word as the synthesiser names it, start, end."""


@dataclass(frozen=True)
class Speech:
    """`words` is one span per whitespace word of the text, None where the synthesiser tells no times."""

    audio: Audio
    words: list[Span] | None = None
    phones: list[Phone] | None = None

    def trimmed(self) -> "Speech":
        """Return the speech with 20 ms of the silence around it."""
        level = np.abs(self.audio)
        loud = np.nonzero(level > max(level.max() * SILENCE_SHARE, SILENCE_LEVEL))[0]
        if len(loud) == 0:
            return Speech(self.audio[:0])
        first, last = max(0, loud[0] - MARGIN_SAMPLES), min(len(level), loud[-1] + MARGIN_SAMPLES)
        shift_s, length_s = first / SAMPLE_RATE, (last - first) / SAMPLE_RATE

        def moved(time: float) -> float:
            return float(min(max(time - shift_s, 0), length_s))

        words = [(moved(start), moved(end)) for start, end in self.words or []]
        phones = [(n, round(moved(start), 3), round(moved(end), 3)) for n, start, end in self.phones or []]
        return Speech(self.audio[first:last], words or None, phones or None)


def resampled(samples: NDArray[np.int16], rate: int) -> Audio:
    """Return the samples at 16 kHz."""
    audio = samples.astype(np.float32)
    if rate == SAMPLE_RATE:
        return audio
    common = gcd(SAMPLE_RATE, rate)
    converted: Audio = resample_poly(audio, SAMPLE_RATE // common, rate // common)
    return converted.astype(np.float32)


def read_wav(path: Path) -> Audio:
    """Return a 16-bit mono file at 16 kHz."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return resampled(samples, file.getframerate())


def match_words(text: str, spoken: list[SpokenWord]) -> list[Span] | None:
    """Return a span per whitespace word of the text, or None where the synthesiser's words do not add up to it."""
    spans, rest = [], iter(spoken)
    for word in text.split():
        wanted = _letters(word)
        parts: list[SpokenWord] = []
        while len("".join(_letters(name) for name, _, _ in parts)) < len(wanted):
            part = next(rest, None)
            if part is None:
                return None
            parts.append(part)
        if "".join(_letters(name) for name, _, _ in parts) != wanted:
            return None
        spans.append((parts[0][1], parts[-1][2]))
    return spans


def radio_phones(ends: Iterable[tuple[str, float]]) -> list[Phone]:
    """Return phonemes with start and end from names and end times."""
    phones, start = [], 0.0
    for name, end in ends:
        phones.append((RADIO_PHONES.get(name, name), start, end))
        start = end
    return phones


def _letters(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalpha())
