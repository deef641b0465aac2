"""Word error rate: how many words were put in, left out or put in another's place, per word that was said."""

import re
from collections.abc import Iterable

_INNER = r"[^\W_]+(?:['’-][^\W_]+)*"  # o'clock and forty-two are one word


def words_of(text: str) -> list[str]:
    """The words of `text` in lower case, without punctuation around them."""
    return re.findall(_INNER, text.lower())


def word_errors(reference: str, hypothesis: str) -> int:
    """The Levenshtein distance over words."""
    expected, found = words_of(reference), words_of(hypothesis)
    row = list(range(len(found) + 1))
    for number, word in enumerate(expected, 1):
        above, row = row, [number]
        for column, other in enumerate(found, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (word != other)))
    return row[-1]


def word_error_rate(reference: str, hypothesis: str) -> float:
    return error_rate_over([(reference, hypothesis)])


def error_rate_over(pairs: Iterable[tuple[str, str]]) -> float:
    """The rate over a set of recordings, each as its reference and its hypothesis: errors by words, both summed."""
    errors = words = 0
    for reference, hypothesis in pairs:
        errors += word_errors(reference, hypothesis)
        words += len(words_of(reference))
    return errors / words
