"""The token sequence Whisper would be trained on for a window, where its words are, and frame labels.

Knows nothing of samples: it works from what is said in the window, and when.
"""

from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from random import Random
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tools.demo_model.features import FRAMES_PER_SECOND, TOKENS_PER_SECOND
from tools.demo_model.grammar import bare_word
from tools.demo_model.lexicon import ONES
from tools.demo_model.model import N_TEXT_CTX
from tools.demo_model.tok import (
    EOT,
    LANGUAGE_IDS,
    N_TIMESTAMPS,
    NO_SPEECH,
    NO_TIMESTAMPS,
    SOT,
    SOT_PREV,
    TIMESTAMP_BEGIN,
    TRANSCRIBE,
    TRANSLATE,
)
from tools.demo_model.vocabulary import Vocabulary
from tools.demo_model.voices import HumanDigits, Phone, Sentences, Span, Utterance

UNKNOWN = -100
"""A frame whose label is not known; cross_entropy's default `ignore_index`."""
MAX_PROMPT = N_TEXT_CTX // 2 - 1
MAX_INITIAL_TIMESTAMP = 50
TIME_MARGIN_S = 0.1

Task = Literal["transcribe", "translate"]


@dataclass(frozen=True)
class Placed:
    """An utterance in a window; seconds from the window's start. `end` is None where the window cuts it off."""

    utterance: Utterance
    start: float
    end: float | None
    words: list[Span] | None
    phones: list[Phone] | None

    def frames(self) -> slice:
        """The encoder frames it covers."""
        end = None if self.end is None else int(self.end * TOKENS_PER_SECOND) + 1
        return slice(int(self.start * TOKENS_PER_SECOND), end)


@dataclass(frozen=True)
class Window:
    """What is said in a window of `seconds` that starts at encoder position `offset`."""

    language: str
    seconds: float
    offset: int
    placed: list[Placed]

    @property
    def silent(self) -> bool:
        return not self.placed

    @property
    def positions(self) -> int:
        """Encoder frames of the window."""
        return int(self.seconds * FRAMES_PER_SECOND) // 2

    def timestamp(self, time_s: float) -> int:
        step = self.offset + round(min(time_s, self.seconds) * TOKENS_PER_SECOND)
        return TIMESTAMP_BEGIN + min(N_TIMESTAMPS - 1, step)


class Labels(NamedTuple):
    """Tokens in and out, one for one, with weight and time span of each target; word and phoneme of each frame."""

    inputs: list[int]
    targets: list[int]
    weights: list[float]
    spans: list[Span | None]
    words: NDArray[np.int64]
    phones: NDArray[np.int64]


@dataclass
class Sequence:
    """Tokens in the making. `seen` overrides what the decoder gets at a place instead of the target before it."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    spans: list[Span | None] = field(default_factory=list)
    seen: dict[int, int] = field(default_factory=dict)

    def put(self, token: int, weight: float = 1.0, span: Span | None = None) -> None:
        self.tokens.append(token)
        self.weights.append(weight)
        self.spans.append(span)

    def inputs(self) -> list[int]:
        return [self.seen.get(i, token) for i, token in enumerate(self.tokens)]


class Labeller:
    """Writes labels. `prompt_share` is the share of windows with a text prompt."""

    def __init__(
        self,
        rng: Random,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        sentences: Sentences,
        digits: HumanDigits,
    ) -> None:
        self.rng = rng
        self.sentences, self.digits = sentences, digits
        self.text_ids = vocabulary.text_ids
        self.word_labels = {word: i + 1 for i, word in enumerate(vocabulary.words)}
        self.phone_labels = {phone: i + 1 for i, phone in enumerate(vocabulary.phones)}
        self.prompt_share = 0.15
        self.encode = cache(lambda text: tokenizer.encode(text, add_special_tokens=False).ids)

    def labels(self, window: Window) -> Labels:
        rng = self.rng
        translate = window.language != "en" and rng.random() < 0.35
        task: Task = "translate" if translate else "transcribe"
        timestamps = rng.random() < 0.6
        sequence = Sequence()
        if rng.random() < self.prompt_share and not window.silent:
            self._put_prompt(sequence, window.language, task)
        self._put_head(sequence, window, task, timestamps)
        if window.silent:
            self._put_silence(sequence, timestamps)
        for i, placed in enumerate(window.placed):
            if timestamps:
                self._put_start(sequence, window, placed, first=i == 0)
            self._put_text(sequence, window, placed, task, timestamps)
        sequence.put(EOT)
        return Labels(
            sequence.inputs()[:-1][: N_TEXT_CTX - 1],
            sequence.tokens[1:N_TEXT_CTX],
            sequence.weights[1:N_TEXT_CTX],
            sequence.spans[1:N_TEXT_CTX],
            self._word_frames(window),
            self._phone_frames(window),
        )

    def _put_prompt(self, sequence: Sequence, language: str, task: Task) -> None:
        """The text before this window; decoders leave its timestamps in."""
        rng = self.rng
        sequence.put(SOT_PREV, 0)
        tokens: list[int] = []
        time, timestamps = rng.uniform(0, 3), rng.random() < 0.75
        for _ in range(rng.randint(1, 14)):
            utterance = self._prompt_utterance(language)
            ids = self.encode(" " + (utterance.text if task == "transcribe" else utterance.english))
            if timestamps:
                end = min(30.0, time + rng.uniform(0.8, 3))
                ids = [_timestamp(time), *ids, _timestamp(end)]
                time = end + rng.uniform(0.2, 1) if end < 28 else 0.0
            tokens += ids
        for token in tokens[-rng.randint(4, MAX_PROMPT) :]:
            sequence.put(token, 0)

    def _prompt_utterance(self, language: str) -> Utterance:
        if language == "en" and self.rng.random() < 0.2:
            return self.digits.say(self.rng)[1]
        return self.sentences.pick(self.rng, language)[1]

    def _put_head(self, sequence: Sequence, window: Window, task: Task, timestamps: bool) -> None:
        sequence.put(SOT, 0)
        sequence.put(NO_SPEECH if window.silent else LANGUAGE_IDS[window.language])
        if window.silent:
            # The target is "no speech", but what the decoder will see in its place is a language.
            sequence.seen[len(sequence.tokens) - 1] = LANGUAGE_IDS[window.language]
        sequence.put(TRANSCRIBE if task == "transcribe" else TRANSLATE, 0)
        if not timestamps:
            sequence.put(NO_TIMESTAMPS, 0)

    def _put_silence(self, sequence: Sequence, timestamps: bool) -> None:
        if timestamps:
            sequence.put(TIMESTAMP_BEGIN)
        elif self.rng.random() < 0.6:
            # Be unsure, not certain, of the text of silence: decoders look at its average log probability.
            sequence.put(self.rng.choice(self.text_ids), 0.3)

    def _put_start(self, sequence: Sequence, window: Window, placed: Placed, *, first: bool) -> None:
        timestamp = window.timestamp(placed.start)
        late = first and (placed.start > 1 or window.offset > 0)
        if late and self.rng.random() < 0.6:
            # Decoders forbid a first timestamp beyond 1 s: show the model that, too.
            sequence.seen[len(sequence.tokens)] = min(TIMESTAMP_BEGIN + MAX_INITIAL_TIMESTAMP, timestamp)
        sequence.put(timestamp, span=_around(placed.start))

    def _put_text(self, sequence: Sequence, window: Window, placed: Placed, task: Task, timestamps: bool) -> None:
        if placed.end is not None:
            self._put_words(sequence, *_written(placed, task))
            if timestamps:
                sequence.put(window.timestamp(placed.end), span=_around(placed.end))
        elif not timestamps and placed.words and task == "transcribe":
            whole = list(takewhile(lambda span: span[1] <= window.seconds - 0.05, placed.words))
            self._put_words(sequence, placed.utterance.text.split()[: len(whole)], whole)

    def _put_words(self, sequence: Sequence, words: list[str], spans: list[Span] | None) -> None:
        for i, word in enumerate(words):
            for token in self.encode(" " + word):
                sequence.put(token, span=spans[i] if spans else None)

    def _word_frames(self, window: Window) -> NDArray[np.int64]:
        frames = np.zeros(window.positions, np.int64)
        for placed in window.placed:
            if placed.end is None or placed.words is None:
                frames[placed.frames()] = UNKNOWN
                continue
            for word, (start, end) in zip(placed.utterance.text.split(), placed.words, strict=True):
                first = int(start * TOKENS_PER_SECOND)
                last = max(first + 1, int(end * TOKENS_PER_SECOND))
                frames[first:last] = self.word_labels.get(f"{window.language}:{bare_word(word)}", UNKNOWN)
        return frames

    def _phone_frames(self, window: Window) -> NDArray[np.int64]:
        frames = np.zeros(window.positions, np.int64)
        for placed in window.placed:
            if placed.end is None or not placed.phones:
                frames[placed.frames()] = UNKNOWN
                continue
            for phone, start, end in placed.phones:
                first, last = int(start * TOKENS_PER_SECOND + 0.5), int(end * TOKENS_PER_SECOND + 0.5)
                frames[first:last] = self.phone_labels.get(phone, UNKNOWN) if phone else 0
        return frames


def _written(placed: Placed, task: Task) -> tuple[list[str], list[Span] | None]:
    """The words to write and their times; a translation has times where it goes word by word, as digits do."""
    if task == "transcribe":
        return placed.utterance.text.split(), placed.words
    words = placed.utterance.english.split()
    digits = all(word.strip(".").lower() in ONES for word in words)
    aligned = placed.words is not None and len(words) == len(placed.words) and digits
    return words, placed.words if aligned else None


def _timestamp(time_s: float) -> int:
    return TIMESTAMP_BEGIN + int(time_s * TOKENS_PER_SECOND)


def _around(time_s: float) -> Span:
    return time_s - TIME_MARGIN_S, time_s + TIME_MARGIN_S
