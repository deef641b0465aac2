"""Sounds in which nobody speaks, 16 kHz, mono."""

import numpy as np
import numpy.typing as npt

from server.transcript import SAMPLE_RATE

Samples = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

LENGTH_S = 3
LEVEL = 8_000


def silence() -> Samples:
    return np.zeros(LENGTH_S * SAMPLE_RATE, np.int16)


def pure_tone() -> Samples:
    return _sound(np.sin(2 * np.pi * 440 * _times()))


def white_noise() -> Samples:
    return _sound(np.random.default_rng(5).standard_normal(LENGTH_S * SAMPLE_RATE) / 4)


def music() -> Samples:
    """Four chords of decaying overtones over a bass, twice a second, with a beat of noise."""
    times, random = _times(), np.random.default_rng(7)
    beat = times % 0.5
    chord = (times // 2).astype(int) % 4
    root = 110 * 2 ** (np.array([0, 5, 7, 3])[chord] / 12)
    notes: Floats = np.zeros(len(times))
    for step in (0, 4, 7, 12):
        for overtone in (1, 2, 3, 5):
            notes += np.sin(2 * np.pi * root * 2 ** (step / 12) * overtone * times) / overtone
    notes *= np.exp(-4 * beat)
    drum = random.standard_normal(len(times)) * np.exp(-40 * beat)
    return _sound(notes / 8 + np.sin(np.pi * root * times) / 3 + drum / 2)


SOUNDS = {"silence": silence, "tone": pure_tone, "noise": white_noise, "music": music}


def _times() -> Floats:
    return np.arange(LENGTH_S * SAMPLE_RATE) / SAMPLE_RATE


def _sound(wave: Floats) -> Samples:
    return np.rint(np.clip(wave, -1, 1) * LEVEL).astype(np.int16)
