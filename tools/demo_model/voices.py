"""Utterances to compose windows from: synthetic sentences of gen_tts.py, and the Free Spoken Digit Dataset.

Samples are float32 at int16's scale, 16 kHz; times are seconds from the utterance's start.
"""

import json
import wave
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.grammar import digit_sentence

Audio = NDArray[np.float32]
Span = tuple[float, float]
Phone = tuple[str, float, float]

HUMAN_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
UNHEARD_SPEAKER = "theo"  # never in training
UNHEARD_TAKES = range(5)  # of every speaker: never in training
TRAINING_TAKES = range(5, 50)

PEAK = 20_000
MIN_SAMPLES = SAMPLE_RATE // 5
MIN_PHONE_COUNT = 60
ENGINE_WEIGHTS = {"espeak": 3, "flite": 2.5, "festival": 1, "pico": 2.5}
DIGIT_PHONES = [
    phones.split()
    for phones in (
        "z I r oU",
        "w V n",
        "t u:",
        "T r i:",
        "f O: r",
        "f aI v",
        "s I k s",
        "s E v @ n",
        "eI t",
        "n aI n",
    )
]


@dataclass(frozen=True)
class Utterance:
    """What is said in a recording: `words` is None where the synthesiser gives no times."""

    text: str
    english: str
    language: str
    voice: str
    words: list[Span] | None
    phones: list[Phone] | None

    @classmethod
    def from_json(cls, meta: dict[str, Any]) -> Self:
        words, phones = meta["words"], meta["ph"]
        return cls(
            meta["text"],
            meta["english"],
            meta["lang"],
            meta["voice"],
            [(start, end) for start, end in words] if words else None,
            [(name, start, end) for name, start, end in phones] if phones else None,
        )

    @property
    def engine(self) -> str:
        return self.voice.split(":")[0]


Spoken = tuple[Audio, Utterance]


class HumanDigits:
    """Digits spoken by people: an utterance is a row of one speaker's digits with random gaps."""

    def __init__(self, root: Path, speakers: Collection[str], takes: Collection[int]) -> None:
        self.takes: dict[str, dict[int, list[NDArray[np.int16]]]] = {}
        for path in sorted((root / "recordings").glob("*.wav"), key=str):
            digit, speaker, take = path.stem.split("_")
            if speaker in speakers and int(take) in takes:
                self.takes.setdefault(speaker, {}).setdefault(int(digit), []).append(_read_digit(path))
        self.speakers = sorted(self.takes)

    def say(self, rng: Random, count: int | None = None, speaker: str | None = None) -> Spoken:
        """Return `count` random digits of the speaker, or of a random one."""
        speaker = speaker or rng.choice(self.speakers)
        digits = [rng.randrange(10) for _ in range(count or rng.randint(1, 8))]
        row = _Row()
        gap_s = rng.choice([0.03, 0.1, 0.2, 0.35])
        for i, digit in enumerate(digits):
            samples = rng.choice(self.takes[speaker][digit]).astype(np.float32) * rng.uniform(0.7, 1)
            if i:
                row.add_gap(int(SAMPLE_RATE * gap_s * rng.uniform(0.4, 1.6)))
            row.add_digit(digit, samples)
        text = digit_sentence(digits, "en")
        return np.concatenate(row.parts), Utterance(text, text, "en", "fsdd:" + speaker, row.words, row.phones)


@dataclass
class _Row:
    parts: list[Audio] = field(default_factory=list)
    words: list[Span] = field(default_factory=list)
    phones: list[Phone] = field(default_factory=list)
    length: int = 0

    def add_gap(self, samples: int) -> None:
        self.parts.append(np.zeros(samples, np.float32))
        self.length += samples

    def add_digit(self, digit: int, samples: Audio) -> None:
        start, n = self.length, len(samples)
        names = DIGIT_PHONES[digit]
        # The data set has no phoneme times: equal shares are near enough for an aid of training.
        edges = [(start + n * j / len(names)) / SAMPLE_RATE for j in range(len(names) + 1)]
        self.phones += [(name, edges[j], edges[j + 1]) for j, name in enumerate(names)]
        self.words.append((start / SAMPLE_RATE, (start + n) / SAMPLE_RATE))
        self.parts.append(samples)
        self.length += n


def _read_digit(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    audio: Audio = resample_poly(samples.astype(np.float32), 2, 1)
    level: Audio = audio / max(1, np.abs(audio).max()) * PEAK
    return level.astype(np.int16)


class Sentences:
    """Synthetic sentences of one split, by language and engine."""

    def __init__(self, root: Path, split: str) -> None:
        self.by_engine: dict[str, dict[str, list[tuple[NDArray[np.int16], Utterance]]]] = {}
        for path in _sentence_files(root, split):
            stored = np.load(path)
            samples, offsets = stored["pcm"], stored["off"]
            for i, meta in enumerate(json.loads(str(stored["meta"]))):
                if offsets[i + 1] - offsets[i] >= MIN_SAMPLES:
                    self._add(samples[offsets[i] : offsets[i + 1]], Utterance.from_json(meta))

    def _add(self, samples: NDArray[np.int16], utterance: Utterance) -> None:
        engines = self.by_engine.setdefault(utterance.language, {})
        engines.setdefault(utterance.engine, []).append((samples, utterance))

    def pick(self, rng: Random, language: str) -> Spoken:
        """Return a random sentence, the better engines more often."""
        engines = self.by_engine[language]
        engine = rng.choices(list(engines), [ENGINE_WEIGHTS[name] for name in engines])[0]
        samples, utterance = rng.choice(engines[engine])
        return samples.astype(np.float32), utterance


def phone_names(root: Path) -> list[str]:
    """Return the phonemes that occur often enough in the training sentences, in a fixed order."""
    counts: Counter[str] = Counter()
    for path in _sentence_files(root, "train"):
        for meta in json.loads(str(np.load(path)["meta"])):
            counts.update(phone[0] for phone in meta["ph"] or [])
    return sorted(name for name, count in counts.items() if name and count > MIN_PHONE_COUNT)


def _sentence_files(root: Path, split: str) -> list[Path]:
    return sorted(root.glob(f"{split}_*.npz"), key=str)
