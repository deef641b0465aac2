"""How far a transcript is from its reference: word errors, invented words, word times. Pure functions.

The only module that imports rapidfuzz.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rapidfuzz.distance import Levenshtein

from server.evaluation.normalizers import tokens_of
from server.evaluation.recordings import LabeledRecording, TimedWord
from server.transcript import Transcript

DIGITS = {"oh": "0", "o": "0"} | {
    word: str(value) for value, word in enumerate("zero one two three four five six seven eight nine".split())
}
LAUGHTER = re.compile(r"a*(?:h[aeio]+){2,}h?|ha+h?|a+h+")  # haha, hehe, ahaha, ah; but "he" and "hi" are words


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A transcript as it is scored: its text, the language (Whisper's code), the seconds of audio, timed words."""

    text: str
    language: str
    duration_s: float = 0.0
    words: tuple[TimedWord, ...] = ()

    @classmethod
    def of(cls, transcript: Transcript) -> Self:
        words = tuple(TimedWord(each.word, each.start, each.end) for each in transcript.words)
        return cls(transcript.text, transcript.language, transcript.duration_s, words)


@dataclass(frozen=True, slots=True)
class Score:
    """Word errors over `words`, the number of words that were said."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0

    def __add__(self, other: Self) -> "Score":
        return Score(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def percent(self) -> float:
        """The word error rate in percent; NaN if nothing was said."""
        return 100 * self.errors / self.words if self.words else math.nan


@dataclass(frozen=True, slots=True)
class TimeError:
    """Seconds by which a recognized word starts and ends after its reference; negative: before it."""

    start: float
    end: float


def score(recording: LabeledRecording, hypothesis: Hypothesis) -> Score:
    """The hypothesis against the reference that it is nearest to. The recording must have one.

    If the manifest names no language, the hypothesis's selects the normalizer.
    """
    if recording.digits:
        return _distance(list(recording.digits), digits_of(hypothesis.text))
    language = recording.language or hypothesis.language
    recognized = tokens_of(hypothesis.text, language)
    scores = (_distance(tokens_of(each, language), recognized) for each in recording.references)
    return min(scores, key=lambda each: each.errors / max(each.words, 1))


def _distance(reference: Sequence[str], hypothesis: Sequence[str]) -> Score:
    edits = Counter(edit.tag for edit in Levenshtein.editops(reference, hypothesis))
    return Score(edits["replace"], edits["delete"], edits["insert"], len(reference))


def digits_of(text: str) -> list[str]:
    """The digits of `text`, as figures or English words, one by one; any other word is one token."""
    words = re.findall(r"\d|[^\W\d_]+", text.lower())
    return [DIGITS.get(word, word) for word in words]


def invented_words(text: str) -> list[str]:
    """The words of a transcript of a recording without speech, laughter aside."""
    return [word for word in tokens_of(text, "") if not LAUGHTER.fullmatch(word)]


def time_errors(recording: LabeledRecording, words: Sequence[TimedWord]) -> list[TimeError]:
    """How far the words that were recognized are off their reference alignment."""
    said, found = _worded(recording.words), _worded(words)
    matching = Levenshtein.opcodes([text for text, _ in said], [text for text, _ in found])
    pairs = (
        (said[block.src_start + place][1], found[block.dest_start + place][1])
        for block in matching
        if block.tag == "equal"
        for place in range(block.src_end - block.src_start)
    )
    return [TimeError(found.start - said.start, found.end - said.end) for said, found in pairs]


def _worded(words: Sequence[TimedWord]) -> list[tuple[str, TimedWord]]:
    """Bare words with their times, less those that are punctuation alone."""
    bare = ((" ".join(tokens_of(each.word, "")), each) for each in words)
    return [(text, word) for text, word in bare if text]
