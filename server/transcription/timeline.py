"""Puts a window's segments where they belong in the file: in order, inside it, words inside their segment."""

from bisect import bisect_right
from dataclasses import replace

from server.transcript import SAMPLE_RATE, Segment, Window, WindowResult, Word

FRAMES_PER_S = 100


class FileTime:
    """Turns times inside a window into times of its file.

    Where silence was cut out, one instant of the window is two of the file: `end` says which is meant.
    """

    def __init__(self, window: Window) -> None:
        self._spans = window.spans
        self._begins: list[int] = []  # window position at which each span begins
        position = 0
        for span in window.spans:
            self._begins.append(position)
            position += len(span)
        self._length = position

    def of(self, time_s: float, *, end: bool = False, span: int | None = None) -> float:
        """File time in seconds of window time `time_s`; past the window's end means its end."""
        sample = min(max(time_s, 0.0) * SAMPLE_RATE, float(self._length))
        index = self.span_at(time_s, end=end) if span is None else span
        chosen = self._spans[index]
        inside = min(max(sample - self._begins[index], 0.0), float(len(chosen)))
        return (chosen.start + inside) / SAMPLE_RATE

    def span_at(self, time_s: float, *, end: bool = False) -> int:
        """Index of the span that holds window time `time_s`; on a joint, the earlier one if `end`."""
        sample = round(max(time_s, 0.0) * SAMPLE_RATE)
        index = bisect_right(self._begins, sample) - 1
        if end and index > 0 and sample == self._begins[index]:
            index -= 1
        return index


class Timeline:
    """Places the results of one request, which must come in order."""

    def __init__(self) -> None:
        self.end_s = 0.0  # end of the last segment: no later one begins before it
        self._count = 0

    def place(self, window: Window, result: WindowResult) -> list[Segment]:
        """Segments of `result` in file time, numbered through the request."""
        time = FileTime(window)
        return [self._place(segment, window, time) for segment in result.segments]

    def _place(self, segment: Segment, window: Window, time: FileTime) -> Segment:
        words = [_in_file(word, time) for word in segment.words or ()]
        # As faster-whisper does: with words, theirs are the segment's times.
        start = words[0].start if words else time.of(segment.start)
        end = words[-1].end if words else time.of(segment.end, end=True)
        start = max(start, self.end_s)
        end = max(end, start)
        placed = replace(
            segment,
            id=self._count,
            seek=round(window.start_s * FRAMES_PER_S) + segment.seek,
            start=start,
            end=end,
            words=None if segment.words is None else tuple(_within(words, start, end)),
        )
        self._count += 1
        self.end_s = end
        return placed


def _in_file(word: Word, time: FileTime) -> Word:
    """A word lies in one span of speech: that of its middle, though its times may reach over a joint."""
    span = time.span_at((word.start + word.end) / 2)
    return replace(word, start=time.of(word.start, span=span), end=time.of(word.end, span=span))


def _within(words: list[Word], start: float, end: float) -> list[Word]:
    """The same words, none before the one in front of it, all in [start, end]."""
    placed = []
    for word in words:
        start = min(max(word.start, start), end)
        placed.append(replace(word, start=start, end=min(max(word.end, start), end)))
        start = placed[-1].end
    return placed
