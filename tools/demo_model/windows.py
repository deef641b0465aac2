"""Composes training windows on the fly: utterances placed in time, spoiled, as features with their labels."""

from dataclasses import replace
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tools.demo_model.features import (
    FRAMES_PER_SECOND,
    HOP_LENGTH,
    SAMPLE_RATE,
    TOKENS_PER_SECOND,
    log_mel,
    normalized,
)
from tools.demo_model.labels import Labeller, Labels, Placed, Window
from tools.demo_model.model import N_AUDIO_CTX
from tools.demo_model.sound import Spoiler, faster
from tools.demo_model.tok import EOT
from tools.demo_model.vocabulary import Vocabulary
from tools.demo_model.voices import Audio, HumanDigits, Sentences, Span, Spoken

LANGUAGE_SHARES = {"en": 0.6, "de": 0.2, "es": 0.2}
HUMAN_SHARE = 0.28
SILENT_SHARE = 0.035
END_MARGIN_S = 0.02
ANY_NUMBER = 99


class Batch(NamedTuple):
    """Windows of one length. `first` and `last` bound each target's word in encoder frames; 0 where it has none."""

    mel: Tensor
    offset: Tensor
    inputs: Tensor
    targets: Tensor
    weights: Tensor
    first: Tensor
    last: Tensor
    words: Tensor
    phones: Tensor

    def spans(self, positions: Tensor) -> Tensor:
        """Return 1 where a position lies in the span of a target's word, else 0."""
        inside = (positions >= self.first[..., None]) & (positions <= self.last[..., None])
        return inside.float()


class Composer:
    """Makes batches. `hardness` of the spoiler and `prompt_share` of the labeller may change on the way."""

    def __init__(
        self,
        sentences: Sentences,
        digits: HumanDigits,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        seed: int = 0,
    ) -> None:
        self.sentences, self.digits = sentences, digits
        self.rng = Random(seed)  # noqa: S311 - repeatable, not secret
        self.spoiler = Spoiler(self.rng, np.random.default_rng(seed))
        self.labeller = Labeller(self.rng, tokenizer, vocabulary, sentences, digits)

    def batch(self, size: int, seconds: float, fill: bool = False, offsets: bool = True) -> Batch:
        """Return random windows: `fill` has speech to their ends, `offsets` lets them start anywhere in 30 s."""
        mels, windows, labels = [], [], []
        for _ in range(size):
            mel, window = self._window(seconds, fill, offsets)
            mels.append(mel)
            windows.append(window)
            labels.append(self.labeller.labels(window))
        return _collated(mels, windows, labels)

    def _window(self, seconds: float, fill: bool, offsets: bool) -> tuple[Tensor, Window]:
        rng = self.rng
        language = rng.choices(list(LANGUAGE_SHARES), list(LANGUAGE_SHARES.values()))[0]
        audio = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
        placed = [] if rng.random() < SILENT_SHARE else self._speak(audio, language, fill)
        if placed or rng.random() >= 0.3:
            audio = self.spoiler.spoil(audio, bool(placed))
        mel = self._features(audio, self._kept_frames(seconds, placed))
        if rng.random() < 0.3:
            self._mask_bands(mel)
        offset = 0
        if offsets and rng.random() < 0.65:
            offset = rng.randrange(0, N_AUDIO_CTX - int(seconds * FRAMES_PER_SECOND) // 2 + 1)
        return mel, Window(language, seconds, offset, placed)

    def _speak(self, audio: Audio, language: str, fill: bool) -> list[Placed]:
        """Add utterances to the samples until the window or a random number is full."""
        seconds = len(audio) / SAMPLE_RATE
        placed: list[Placed] = []
        time = min(self._lead_s(), seconds / 3)
        most = self._number(fill)
        while len(placed) < most:
            spoken = self._utterance(language)
            end = time + len(spoken[0]) / SAMPLE_RATE
            if end <= seconds - END_MARGIN_S:
                placed.append(_place(audio, spoken, time, end))
                time = end + self._pause_s()
            elif not placed:
                time = 0.0
            else:
                if fill and time < seconds - 0.3:
                    placed.append(replace(_place(audio, spoken, time, end), end=None))
                break
        return placed

    def _lead_s(self) -> float:
        rng = self.rng
        return rng.choice([rng.uniform(0, 0.3), rng.uniform(0, 0.3), rng.uniform(0.2, 1), rng.uniform(0.5, 3)])

    def _pause_s(self) -> float:
        rng = self.rng
        return rng.uniform(0.12, 0.6) if rng.random() < 0.6 else rng.uniform(0.4, 2.5)

    def _number(self, fill: bool) -> int:
        most = 1 if self.rng.random() < 0.3 else ANY_NUMBER
        if not fill and self.rng.random() < 0.5:
            return self.rng.randint(1, 3)
        return most

    def _utterance(self, language: str) -> Spoken:
        rng = self.rng
        if language == "en" and rng.random() < HUMAN_SHARE:
            audio, said = self.digits.say(rng)
            factor = rng.uniform(0.85, 1.18)
        else:
            audio, said = self.sentences.pick(rng, language)
            factor = rng.uniform(0.9, 1.12)
        audio = faster(audio, factor) * 10 ** (rng.uniform(-6, 6) / 20)
        words = [(start / factor, end / factor) for start, end in said.words] if said.words else None
        phones = [(n, start / factor, end / factor) for n, start, end in said.phones] if said.phones else None
        return audio, replace(said, words=words, phones=phones)

    def _kept_frames(self, seconds: float, placed: list[Placed]) -> int:
        """Frames before the padding."""
        rng = self.rng
        kept_s = seconds
        if placed and rng.random() < 0.6:
            last = placed[-1].end or seconds
            kept_s = min(seconds, last + rng.choice([0.01, rng.uniform(0, 0.3), rng.uniform(0, 2)]))
        return int(kept_s * FRAMES_PER_SECOND)

    def _features(self, audio: Audio, kept: int) -> Tensor:
        """Pad with silent samples, as openai/whisper does, or with zero features, as faster-whisper does."""
        pad_samples = self.rng.random() < 0.5
        if pad_samples:
            audio[kept * HOP_LENGTH :] = 0
        mel = log_mel(torch.from_numpy(audio))
        peak = mel.max() if pad_samples else mel[:, :kept].max()
        if self.rng.random() < 0.2:
            peak = peak + self.rng.uniform(0, 1)
        mel = normalized(mel, peak)
        if not pad_samples:
            mel[:, kept:] = 0
        return mel

    def _mask_bands(self, mel: Tensor) -> None:
        """SpecAugment, mild."""
        first = self.rng.randrange(72)
        value = self.rng.uniform(-0.5, 0.3)
        mel[first : first + self.rng.randint(1, 8)] = value


def _place(audio: Audio, spoken: Spoken, start: float, end: float) -> Placed:
    """Add the utterance to the samples, as far as it fits."""
    samples, said = spoken
    first = int(start * SAMPLE_RATE)
    fitting = min(len(samples), len(audio) - first)
    audio[first : first + fitting] += samples[:fitting]
    words = [(start + s, start + e) for s, e in said.words] if said.words else None
    phones = [(name, start + s, start + e) for name, s, e in said.phones] if said.phones else None
    return Placed(said, start, end, words, phones)


def _collated(mels: list[Tensor], windows: list[Window], labels: list[Labels]) -> Batch:
    length = max(len(label.inputs) for label in labels)
    shape = (len(labels), length)
    inputs, targets = torch.full(shape, EOT), torch.full(shape, EOT)
    weights, first, last = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
    for i, (window, label) in enumerate(zip(windows, labels, strict=True)):
        n = len(label.inputs)
        inputs[i, :n] = torch.tensor(label.inputs)
        targets[i, :n] = torch.tensor(label.targets)
        weights[i, :n] = torch.tensor(label.weights)
        for j, span in enumerate(label.spans):
            if span is not None:
                first[i, j], last[i, j] = _frames(span, window.positions)
    return Batch(
        torch.stack(mels),
        torch.tensor([window.offset for window in windows]),
        inputs,
        targets,
        weights,
        first,
        last,
        torch.from_numpy(np.stack([label.words for label in labels])),
        torch.from_numpy(np.stack([label.phones for label in labels])),
    )


def _frames(span: Span, positions: int) -> tuple[float, float]:
    """Encoder frames of a time span, a frame wider on either side."""
    start, end = span
    return max(0, start * TOKENS_PER_SECOND - 1), min(positions, end * TOKENS_PER_SECOND + 1)
