"""Maps the bare words of a response back to the text of their segments. Pure.

`verbose_json` has "Hello" where the model gave " Hello,". Cues are made of the latter, so that no text is lost:
characters between two words are divided between them.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

from server.formats.render import bare_word, is_edge
from server.transcript import Segment, Word

_OPENING = frozenset("¿¡")  # opening, though not by their Unicode category: they belong to the next word


def with_texts(segment: Segment) -> Segment:
    """Return `segment` with words that, joined, are its text; without words if they don't match the text."""
    words = segment.words or ()
    texts, end = _fit(segment.text, [bare_word(word.word) for word in words], 0)
    rest = segment.text[end:]
    if not texts or len(texts) < len(words) or not _is_gap(rest):
        return replace(segment, words=None)
    texts[-1] += rest.rstrip()
    return replace(segment, words=tuple(replace(word, word=text) for word, text in zip(words, texts, strict=True)))


def distributed(segments: Sequence[Segment], words: Sequence[Word]) -> Iterator[Segment]:
    """Distribute `words`, which are in order, among `segments`: by text, or else by time."""
    bare = [bare_word(word.word) for word in words]
    first = 0
    for number, segment in enumerate(segments, 1):
        after = first + len(_fit(segment.text, bare, first)[0])
        while after < len(words) and (words[after].start < segment.end or number == len(segments)):
            after += 1
        yield replace(segment, words=tuple(words[first:after]))
        first = after


def _fit(text: str, bare: Sequence[str], first: int) -> tuple[list[str], int]:
    """Return the text of each word from `bare[first]` on, as long as they match, and the end of the last."""
    texts: list[str] = []
    end = 0
    for at in range(first, len(bare)):
        start = text.find(bare[at], end)
        if start < 0 or not _is_gap(gap := text[end:start]):
            break
        cut = _closing(gap) if texts else 0
        if texts:
            texts[-1] += gap[:cut]
        texts.append(gap[cut:] + bare[at])
        end = start + len(bare[at])
    return texts, end


def _closing(gap: str) -> int:
    """Count the characters after a word that belong to it: up to a space or to opening punctuation."""
    space = next((at for at, char in enumerate(gap) if char.isspace()), None)
    if space is not None:
        return space
    end = len(gap)
    while end and (gap[end - 1] in _OPENING or unicodedata.category(gap[end - 1]) in ("Ps", "Pi")):
        end -= 1
    return end


def _is_gap(text: str) -> bool:
    """Return True if nothing in `text` is part of a word."""
    return all(map(is_edge, text))
