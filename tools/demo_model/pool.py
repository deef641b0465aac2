"""A larger evaluation set, straight from the kept-back sentences and human takes, as rows of a manifest."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.splits import human_digits
from tools.demo_model.voices import Audio, Sentences, Utterance

PER_VOICE = 60
LEAD_SAMPLES, TAIL_SAMPLES = 4000, 6000
FULL_SCALE = 32768


def rows(tts: Path, fsdd: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield manifest rows with the samples themselves as `audio`."""
    rng = Random(77)  # noqa: S311 - repeatable, not secret
    for language, engines in Sentences(tts, split).by_engine.items():
        for engine, spoken in engines.items():
            for samples, said in spoken[:PER_VOICE]:
                yield _row(f"{language} {engine}", samples.astype(np.float32), said, rng)
    for speaker, digits in human_digits(fsdd, split):
        for _ in range(PER_VOICE // 2):
            yield _row(f"human {speaker}", *digits.say(rng, rng.randint(3, 7)), rng)


def _row(kind: str, samples: Audio, said: Utterance, rng: Random) -> dict[str, Any]:
    level = samples * rng.uniform(0.2, 1) / FULL_SCALE
    audio = np.concatenate([np.zeros(LEAD_SAMPLES), level, np.zeros(TAIL_SAMPLES)]).astype(np.float32)
    return {
        "audio": audio,
        "kind": kind,
        "language": said.language,
        "text": said.text,
        "translation": None if said.language == "en" else said.english,
        "duration": len(audio) / SAMPLE_RATE,
        "segments": [],
    }
