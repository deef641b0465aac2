"""Word errors between what was said and what was heard."""

import re
from typing import NamedTuple


class Alignment(NamedTuple):
    """The Levenshtein distance of two word lists, and the index pairs of the words they share."""

    errors: int
    matches: list[tuple[int, int]]


def words(text: str) -> list[str]:
    """Return the words to compare: lower case, without punctuation, compounds apart."""
    return re.sub(r"[^\w' ]", "", text.lower().replace("-", " ")).split()


def align(reference: list[str], hypothesis: list[str]) -> Alignment:
    """Return the fewest insertions, deletions and substitutions between the two, and what matches."""
    table = _distances(reference, hypothesis)
    i, j, matches = len(reference), len(hypothesis), []
    while i and j:
        if reference[i - 1] == hypothesis[j - 1] and table[i][j] == table[i - 1][j - 1]:
            i, j = i - 1, j - 1
            matches.append((i, j))
        elif table[i][j] == table[i - 1][j - 1] + 1:
            i, j = i - 1, j - 1
        elif table[i][j] == table[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return Alignment(table[-1][-1], matches)


def _distances(reference: list[str], hypothesis: list[str]) -> list[list[int]]:
    table = [list(range(len(hypothesis) + 1))]
    for i, said in enumerate(reference, 1):
        row = [i]
        for j, found in enumerate(hypothesis, 1):
            row.append(min(table[-1][j] + 1, row[-1] + 1, table[-1][j - 1] + (said != found)))
        table.append(row)
    return table
