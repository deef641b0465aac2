"""How far a transcript is from what was said: word errors, invented words, times of words. Pure functions.

Both sides go through Whisper's own normalisers first: the English one for English, the basic one for the rest, with
characters for words in Chinese and Japanese, and Chinese in simplified characters.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from opencc import OpenCC
from rapidfuzz.distance import Levenshtein
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.truth.recordings import Recording, TimedWord

BY_CHARACTER = frozenset({"zh", "ja"})
DIGITS = {"oh": "0", "o": "0"} | {
    word: str(value) for value, word in enumerate("zero one two three four five six seven eight nine".split())
}
LAUGHTER = re.compile(r"a*(?:h[aeio]+){2,}h?|ha+h?|a+h+")  # haha, hehe, ahaha, ah; but "he" and "hi" are words


@dataclass(frozen=True, slots=True)
class Score:
    """Word errors (put in, left out, mistaken) over so many words that were said."""

    errors: int = 0
    words: int = 0

    def __add__(self, other: Self) -> "Score":
        return Score(self.errors + other.errors, self.words + other.words)

    @property
    def percent(self) -> float:
        """The word error rate in percent; NaN where nothing was said."""
        return 100 * self.errors / self.words if self.words else float("nan")


def score(recording: Recording, text: str) -> Score:
    """`text` against the reference that it is nearest to. The recording must have one."""
    if recording.digits:
        return _distance(list(recording.digits), digits_of(text))
    said = tokens_of(text, recording.language)
    scores = (_distance(tokens_of(each, recording.language), said) for each in recording.references)
    return min(scores, key=lambda each: each.percent)


def _distance(reference: Sequence[str], hypothesis: Sequence[str]) -> Score:
    return Score(Levenshtein.distance(reference, hypothesis), len(reference))


def tokens_of(text: str, language: str) -> list[str]:
    """Normalised words, characters where a language is written without spaces; without brackets and fillers."""
    if language == "en":
        return str(_english()(text)).split()
    if language == "zh":
        text = _simplified().convert(text)
    return str(_basic(language in BY_CHARACTER)(text)).split()


def digits_of(text: str) -> list[str]:
    """The digits of `text`, whether figures or English words, one by one; any other word is one token."""
    words = re.findall(r"\d|[^\W\d_]+", text.lower())
    return [DIGITS.get(word, word) for word in words]


def invented_words(text: str) -> list[str]:
    """The words of a transcript of a recording in which nobody speaks. Laughter is written down, not invented."""
    return [word for word in tokens_of(text, "") if not LAUGHTER.fullmatch(word)]


@dataclass(frozen=True, slots=True)
class TimeError:
    """Seconds by which a recognised word starts and ends after its reference; negative: before it."""

    start: float
    end: float


def time_errors(recording: Recording, words: Sequence[TimedWord]) -> list[TimeError]:
    """How far the words that were recognised are off their reference alignment."""
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


@cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


@cache
def _basic(by_character: bool) -> BasicTextNormalizer:
    return BasicTextNormalizer(split_letters=by_character)


@cache
def _simplified() -> OpenCC:
    return OpenCC("t2s")
