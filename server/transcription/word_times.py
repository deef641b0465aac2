"""Moves the times of words to where they are spoken, by the loudness of the window.

Whisper's attention reaches a word before or after it is spoken, by a time that each model has of its own, and a
word after a pause gets the pause too (docs/accuracy.md). Both are mended here; text, order and number of words
stay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from server.audio.loudness import Frames
from server.transcript import FRAME_S, Segment, WindowResult, Word

MIN_WORD_S = 0.06  # of a word that is cut at its quiet side
MAX_BACK_S = 0.1  # a word in which its start was taken for a pause
MAX_LONGER_S = 0.2  # a word that still sounds at its end
TAIL_FRAMES, PAUSE_FRAMES = 10, 15  # sound of the word before that one may begin with, if such a pause follows
MAX_CUE_SILENCE_S = 0.5  # that a segment without words may begin or end with


def with_spoken_times(
    result: WindowResult, loud: Frames, shift_s: tuple[float, float] = (0.0, 0.0)
) -> WindowResult:
    """`result` of a window whose frames are `loud` or not, with the times of words and segments where they sound.

    `shift_s` is what starts and ends of all words are moved by first (`KnownModel.word_shift_s`). Words stay in
    order and don't overlap; a segment without words loses silence at its ends. `words_end` stays: the model's own
    clock goes on from it.
    """
    words = [_shifted(word, *shift_s) for one in result.segments for word in one.words or ()]
    spoken = iter(_spoken(words, loud))
    return replace(result, segments=tuple(_placed(one, spoken, loud) for one in result.segments))


def _placed(segment: Segment, spoken: Iterator[Word], loud: Frames) -> Segment:
    if not segment.words:
        start, end = _trimmed(segment.start, segment.end, loud)
        return replace(segment, start=start, end=end)
    words = tuple(islice(spoken, len(segment.words)))
    return replace(segment, start=words[0].start, end=words[-1].end, words=words)


def _shifted(word: Word, start_s: float, end_s: float) -> Word:
    """`word` with its times moved; it stays in the window and keeps its shortest length, if it had that."""
    start = max(0.0, min(word.start + start_s, max(word.start, word.end - MIN_WORD_S)))
    return replace(word, start=start, end=max(start, word.end + end_s))


def _spoken(words: Sequence[Word], loud: Frames) -> list[Word]:
    earliest = [0.0, *(word.end for word in words)]
    starts = [_start(word, before, loud) for word, before in zip(words, earliest, strict=False)]
    limits = [*starts[1:], len(loud) * FRAME_S]
    placed: list[Word] = []
    for word, start, limit in zip(words, starts, limits, strict=False):
        start = max(start, placed[-1].end if placed else 0.0)
        placed.append(replace(word, start=start, end=max(start, _end(word, start, limit, loud))))
    return placed


def _start(word: Word, earliest: float, loud: Frames) -> float:
    """When `word` begins to sound: behind the silence that was counted as its own, or up to `MAX_BACK_S` before."""
    start, latest = word.start, max(word.start, word.end - MIN_WORD_S)
    first, last = _frame(start), min(_frame(latest), len(loud))
    if first >= len(loud):
        return start
    if (onset := _onset(loud, first, last)) is not None:
        return onset * FRAME_S
    if not loud[first]:
        return start
    lowest = max(_frame(earliest), first - _frame(MAX_BACK_S), 0)
    quiet = next((frame for frame in range(first - 1, lowest - 2, -1) if frame < 0 or not loud[frame]), None)
    return start if quiet is None else min(start, (quiet + 1) * FRAME_S)


def _onset(loud: Frames, first: int, last: int) -> int | None:
    """The frame in [first, last) at which a word begins that is aligned to begin at `first`, in a pause or in the
    tail of the word before it; None if it begins at `first`."""
    quiet = next((frame for frame in range(first, min(first + TAIL_FRAMES, last)) if not loud[frame]), last)
    onset = next((frame for frame in range(quiet, last) if loud[frame]), None)
    return None if onset is None or (first < quiet and onset - quiet < PAUSE_FRAMES) else onset


def _end(word: Word, start: float, limit: float, loud: Frames) -> float:
    """When `word` no longer sounds, by `limit` at the latest."""
    end = min(word.end, limit)
    last = min(_frame(end), len(loud))
    if last and not loud[last - 1]:
        lowest = _frame(start + MIN_WORD_S)
        return next((frame * FRAME_S for frame in range(last, lowest, -1) if loud[frame - 1]), end)
    longest = min(_frame(limit), last + _frame(MAX_LONGER_S), len(loud))
    return max(end, next((frame for frame in range(last, longest) if not loud[frame]), longest) * FRAME_S)


def _trimmed(start: float, end: float, loud: Frames) -> tuple[float, float]:
    """The times of a segment without long silence at its ends; unchanged where nothing in it is loud."""
    first, last = _frame(start), min(_frame(end), len(loud))
    sounding = [frame for frame in range(first, last) if loud[frame]]
    if not sounding:
        return start, end
    onset, offset = sounding[0] * FRAME_S, (sounding[-1] + 1) * FRAME_S
    return (
        onset if onset - start > MAX_CUE_SILENCE_S else start,
        offset if end - offset > MAX_CUE_SILENCE_S else end,
    )


def _frame(time_s: float) -> int:
    return round(time_s / FRAME_S)
