"""Speaks sentences of the grammar with every synthesiser there is.

Writes OUT/<split>_<voice>_<language>.npz: `pcm` (int16, 16 kHz, all utterances end to end), `off` (their offsets)
and `meta`, a JSON list with text, english, lang, voice, words ([start, end] per whitespace word) and ph (phonemes,
[name, start, end]).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.demo_model import festival, pico
from tools.demo_model.espeak import Espeak, Manner
from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.flite import Flite
from tools.demo_model.grammar import Translated, sample_split
from tools.demo_model.speech import Speech
from tools.demo_model.voices import PEAK, Audio

ESPEAK_VOICES = {
    "en": ["gmw/en-US", "gmw/en-US", "gmw/en", "gmw/en-GB-x-rp", "gmw/en-GB-scotland", "gmw/en-029"],
    "de": ["gmw/de"],
    "es": ["roa/es", "roa/es-419"],
}
# Variants of dev and held are in no other split.
ESPEAK_VARIANTS = {
    "train": ["", *"+m1 +m2 +m3 +m4 +m6 +f1 +f2 +f3 +f4 +klatt2 +Andy +Annie +steph".split()],
    "dev": ["+m7"],
    "held": ["+f5", "+m8"],
}


class Group(NamedTuple):
    """So many utterances of a voice: an engine, or engine:name."""

    voice: str
    language: str
    size: int

    @property
    def engine(self) -> str:
        return self.voice.split(":")[0]

    @property
    def name(self) -> str:
        return self.voice.split(":")[1]


# flite's rms and festival's ked are never in training.
GROUPS = {
    "train": [
        Group("espeak", "en", 7000),
        Group("espeak", "de", 2200),
        Group("espeak", "es", 2200),
        Group("flite:cmu_us_slt", "en", 1200),
        Group("flite:cmu_us_awb", "en", 1200),
        Group("flite:cmu_us_kal", "en", 700),
        Group("festival:kal_diphone", "en", 500),
        Group("festival:cmu_us_slt_arctic_hts", "en", 500),
        Group("pico:en-US", "en", 1300),
        Group("pico:en-GB", "en", 1300),
        Group("pico:de-DE", "de", 1200),
        Group("pico:es-ES", "es", 1200),
    ],
    "dev": [
        Group("espeak", "en", 80),
        Group("flite:cmu_us_rms", "en", 80),
        Group("pico:en-US", "en", 60),
        Group("espeak", "de", 50),
        Group("espeak", "es", 50),
        Group("pico:de-DE", "de", 50),
        Group("pico:es-ES", "es", 50),
    ],
    "held": [
        Group("espeak", "en", 80),
        Group("festival:ked_diphone", "en", 80),
        Group("pico:en-GB", "en", 60),
        Group("espeak", "de", 50),
        Group("espeak", "es", 50),
        Group("pico:de-DE", "de", 50),
        Group("pico:es-ES", "es", 50),
    ],
}

Voiced = tuple[str, Speech]
"""Speech and the full name of its voice."""
Speaker = Callable[[list[str], Group, str, Random], Iterator[Voiced]]


class Synthesisers:
    """Speak texts in random manners; the libraries are loaded when first needed."""

    @cached_property
    def _espeak_library(self) -> Espeak:
        return Espeak()

    @cached_property
    def _flite_library(self) -> Flite:
        return Flite()

    def speaker(self, engine: str) -> Speaker:
        speakers: dict[str, Speaker] = {
            "espeak": self._espeak,
            "flite": self._flite,
            "festival": self._festival,
            "pico": self._pico,
        }
        return speakers[engine]

    def _espeak(self, texts: list[str], group: Group, split: str, rng: Random) -> Iterator[Voiced]:
        for text in texts:
            variant = rng.choice(ESPEAK_VARIANTS[split])
            voice = rng.choice(ESPEAK_VOICES[group.language]) + variant
            manner = Manner(
                rng.randint(125, 195), rng.randint(20, 80), rng.randint(30, 70), rng.choice([0, 0, 0, 2, 5])
            )
            yield "espeak:" + voice, self._espeak_library.say(text, voice, manner)

    def _flite(self, texts: list[str], group: Group, _: str, rng: Random) -> Iterator[Voiced]:
        for text in texts:
            stretch = rng.uniform(0.8, 1.25)
            pitch_hz = rng.uniform(80, 140) if group.name.endswith("kal") else None
            yield group.voice, self._flite_library.say(text, group.name, stretch, pitch_hz)

    def _festival(self, texts: list[str], group: Group, _: str, rng: Random) -> Iterator[Voiced]:
        stretches = [round(rng.uniform(0.85, 1.25), 2) for _ in texts]
        for speech in festival.say_all(texts, group.name, stretches):
            yield group.voice, speech

    def _pico(self, texts: list[str], group: Group, _: str, rng: Random) -> Iterator[Voiced]:
        for text in texts:
            yield group.voice, pico.say(text, group.name, rng.randint(75, 130), rng.randint(70, 130))


def speak_group(synthesisers: Synthesisers, group: Group, split: str, out: Path) -> None:
    """Speak the group's sentences and write them to their file."""
    rng = Random(f"{split}{group.voice}{group.language}")  # noqa: S311 - repeatable, not secret
    sentences = [sample_split(rng, group.language, split) for _ in range(group.size)]
    samples, offsets, metas = [], [0], []
    speaker = synthesisers.speaker(group.engine)
    spoken = speaker([text for text, _ in sentences], group, split, rng)
    for sentence, (voice, speech) in zip(sentences, spoken, strict=True):
        samples.append(_levelled(speech.audio))
        offsets.append(offsets[-1] + len(speech.audio))
        metas.append(_meta(sentence, group.language, voice, speech))
    path = out / f"{split}_{group.voice.replace(':', '-')}_{group.language}.npz"
    np.savez(path, pcm=np.concatenate(samples), off=np.array(offsets), meta=json.dumps(metas, ensure_ascii=False))
    timed = sum(meta["words"] is not None for meta in metas)
    seconds = round(offsets[-1] / SAMPLE_RATE)
    print(f"{path}: {group.size} utterances, {seconds} s, {timed} with word times", flush=True)


def _levelled(audio: Audio) -> NDArray[np.int16]:
    level: Audio = audio / max(1, np.abs(audio).max()) * PEAK
    return np.clip(level, -32767, 32767).astype(np.int16)


def _meta(sentence: Translated, language: str, voice: str, speech: Speech) -> dict[str, Any]:
    text, english = sentence
    words = [(round(start, 3), round(end, 3)) for start, end in speech.words or []]
    return {
        "text": text,
        "english": english,
        "lang": language,
        "voice": voice,
        "words": words or None,
        "ph": speech.phones,
    }


def main() -> None:
    """Speak sentences of the grammar and write them to OUT."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the training sentences to make")
    parser.add_argument("--sets", default="dev,held,train")
    parser.add_argument("--only", default="", help="only voices that begin so")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    synthesisers = Synthesisers()
    for split in args.sets.split(","):
        for group in GROUPS[split]:
            if group.voice.startswith(args.only):
                scale = args.scale if split == "train" else 1
                speak_group(synthesisers, group._replace(size=max(1, int(group.size * scale))), split, args.out)


if __name__ == "__main__":
    main()
