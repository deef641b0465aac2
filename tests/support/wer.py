"""Word error rate: how many words were put in, left out or put in another's place, per word that was said."""

import re
from collections.abc import Iterable

_INNER = r"[^\W_]+(?:['’-][^\W_]+)*"  # o'clock and forty-two are one word


def words_of(text: str) -> list[str]:
    """The words of `text` in lower case, without punctuation around them."""
    return re.findall(_INNER, text.lower())


def word_errors(said: str, heard: str) -> int:
    """The Levenshtein distance over words."""
    expected, found = words_of(said), words_of(heard)
    row = list(range(len(found) + 1))
    for number, word in enumerate(expected, 1):
        above, row = row, [number]
        for column, other in enumerate(found, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (word != other)))
    return row[-1]


def word_error_rate(said: str, heard: str) -> float:
    return error_rate_over([(said, heard)])


def error_rate_over(pairs: Iterable[tuple[str, str]]) -> float:
    """The rate over a set of recordings, each as what was said and what was heard: errors by words, both summed."""
    errors = words = 0
    for said, heard in pairs:
        errors += word_errors(said, heard)
        words += len(words_of(said))
    return errors / words
