"""What a recording may suffer: other speed, room, filters, noise, level. Samples in, samples out."""

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.voices import Audio

Frequencies = NDArray[np.floating[Any]]
Spectrum = NDArray[np.complexfloating[Any, Any]]


def faster(audio: Audio, factor: float) -> Audio:
    """Return the samples played faster by the factor; the pitch goes along."""
    length = int(len(audio) / factor)
    stretched: NDArray[np.float64] = np.interp(np.arange(length) * factor, np.arange(len(audio)), audio)
    return stretched.astype(np.float32)


@dataclass
class Spoiler:
    """Spoils recordings at random. `hardness` from 0 to 1 says how much."""

    rng: Random
    noise_rng: np.random.Generator
    hardness: float = 1.0

    def spoil(self, audio: Audio, speech: bool) -> Audio:
        """Return the samples filtered, with noise, at a random level. `speech` says whether anybody speaks."""
        rng = self.rng
        power = np.sqrt(np.mean(audio[audio != 0] ** 2)) if speech else 1.0
        audio = audio / (power + 1e-9)
        if rng.random() < 0.45 * self.hardness:
            audio = self._filtered(audio)
        if rng.random() < 0.6 or not speech:
            loudest_db = 6 + 14 * (1 - self.hardness)
            audio = audio + self.noise(len(audio)) * 10 ** (-rng.uniform(loudest_db, 45) / 20)
        audio = audio * 10 ** rng.uniform(-2.8, -0.6)
        if rng.random() < 0.2:
            audio = np.clip(audio, -1, 1)
        return audio.astype(np.float32)

    def noise(self, length: int) -> Audio:
        """Return noise of unit power: white, coloured, or a hum of four tones."""
        kind = self.rng.randrange(4)
        if kind == 0:
            noise = self._white(length)
        elif kind == 3:
            noise = self._hum(length)
        else:
            spectrum = np.fft.rfft(self._white(length))
            frequencies = np.arange(len(spectrum)) + 20.0
            noise = np.fft.irfft(spectrum / frequencies ** self.rng.uniform(0.3, 1.1), length).astype(np.float32)
        noise /= noise.std() + 1e-9
        return noise

    def _white(self, length: int) -> Audio:
        return self.noise_rng.standard_normal(length, dtype=np.float32)

    def _hum(self, length: int) -> Audio:
        t = np.arange(length, dtype=np.float32) / SAMPLE_RATE
        hum = np.zeros(length, np.float32)
        for i in range(4):
            hum += np.sin(2 * np.pi * self.rng.uniform(50, 3000) * t) / (i + 1)
        return hum + 0.3 * self._white(length)

    def _filtered(self, audio: Audio) -> Audio:
        rng, length = self.rng, len(audio)
        spectrum = np.fft.rfft(audio)
        frequencies: Frequencies = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
        if rng.random() < 0.3:
            spectrum = spectrum * np.fft.rfft(self._room(), length)
        if rng.random() < 0.5:
            spectrum = spectrum * 10 ** (self._gain_db(frequencies) / 20)
        if rng.random() < 0.5:
            self._limit_band(spectrum, frequencies)
        return np.fft.irfft(spectrum, length).astype(np.float32)

    def _room(self) -> Audio:
        length = int(SAMPLE_RATE * self.rng.uniform(0.05, 0.3))
        decay = np.exp(-np.arange(length) / (length / 5))
        echo = (self.noise_rng.standard_normal(length) * decay).astype(np.float32)
        echo *= self.rng.uniform(0.1, 0.5) / np.sqrt((echo**2).sum())
        echo[0] = 1
        return echo

    def _gain_db(self, frequencies: Frequencies) -> Frequencies:
        rng = self.rng
        tilt: Frequencies = rng.uniform(-6, 6) * np.log2((frequencies + 200) / 1000) / 3
        bumps: Frequencies = rng.uniform(-5, 5) * np.sin(frequencies / rng.uniform(300, 2000) + rng.uniform(0, 6))
        return tilt + bumps

    def _limit_band(self, spectrum: Spectrum, frequencies: Frequencies) -> None:
        """As on the telephone and at low bit rates."""
        spectrum[frequencies > self.rng.uniform(3300, 7500)] = 0
        if self.rng.random() < 0.3:
            spectrum[frequencies < self.rng.uniform(50, 300)] = 0
