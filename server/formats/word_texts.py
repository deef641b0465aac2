"""Words as answers have them, without punctuation, back in the text of their segments. Pure.

`verbose_json` has "Hello" where the model gave " Hello,". Cues are made of the latter, so that nothing of the text
is lost: what stands between two words is shared among them.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

from server.formats.render import bare_word, is_edge
from server.transcript import Segment, Word

_OPENING = frozenset("¿¡")  # beside brackets and quotation marks, to Unicode: they belong to the word behind them


def with_texts(segment: Segment) -> Segment:
    """`segment` with words that, joined, are its text; without words where they are not those of the text."""
    words = segment.words or ()
    texts, end = _fit(segment.text, [bare_word(word.word) for word in words], 0)
    rest = segment.text[end:]
    if not texts or len(texts) < len(words) or not _is_gap(rest):
        return replace(segment, words=None)
    texts[-1] += rest.rstrip()
    return replace(segment, words=tuple(replace(word, word=text) for word, text in zip(words, texts, strict=True)))


def distributed(segments: Sequence[Segment], words: Sequence[Word]) -> Iterator[Segment]:
    """`segments` with their share of `words`, all of them in order: those of its text, or else of its time."""
    bare = [bare_word(word.word) for word in words]
    first = 0
    for number, segment in enumerate(segments, 1):
        after = first + len(_fit(segment.text, bare, first)[0])
        while after < len(words) and (words[after].start < segment.end or number == len(segments)):
            after += 1
        yield replace(segment, words=tuple(words[first:after]))
        first = after


def _fit(text: str, bare: Sequence[str], first: int) -> tuple[list[str], int]:
    """What of `text` belongs to each word from `bare[first]` on, for as long as they follow in it; and the end."""
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
    """How many characters of what stands behind a word belong to it: up to a space or what opens the next one."""
    space = next((at for at, char in enumerate(gap) if char.isspace()), None)
    if space is not None:
        return space
    end = len(gap)
    while end and (gap[end - 1] in _OPENING or unicodedata.category(gap[end - 1]) in ("Ps", "Pi")):
        end -= 1
    return end


def _is_gap(text: str) -> bool:
    """Whether nothing in `text` is part of a word."""
    return all(map(is_edge, text))
