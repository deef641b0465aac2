"""Maps a window's segments to file time: in order, inside the file, words inside their segment."""

from bisect import bisect_right
from dataclasses import replace

from server.transcript import SAMPLE_RATE, Segment, Window, WindowResult, Word

FRAMES_PER_S = 100


class FileTime:
    """Converts times inside a window to times of its file.

    Where silence was cut out, one time of the window corresponds to two of the file: `end` selects the earlier.
    """

    def __init__(self, window: Window) -> None:
        self._spans = window.spans
        self._begins: list[int] = []  # window position of the start of each span
        position = 0
        for span in window.spans:
            self._begins.append(position)
            position += len(span)
        self._length = position

    def of(self, time_s: float, *, end: bool = False, span: int | None = None) -> float:
        """File time in seconds of window time `time_s`; times past the window's end map to its end."""
        sample = min(max(time_s, 0.0) * SAMPLE_RATE, float(self._length))
        index = self.span_at(time_s, end=end) if span is None else span
        chosen = self._spans[index]
        inside = min(max(sample - self._begins[index], 0.0), float(len(chosen)))
        return (chosen.start + inside) / SAMPLE_RATE

    def span_at(self, time_s: float, *, end: bool = False) -> int:
        """Index of the span that contains window time `time_s`; at a boundary, the earlier one if `end`."""
        sample = round(max(time_s, 0.0) * SAMPLE_RATE)
        index = bisect_right(self._begins, sample) - 1
        if end and index > 0 and sample == self._begins[index]:
            index -= 1
        return index


class Timeline:
    """Places the results of one request, which must arrive in order."""

    def __init__(self) -> None:
        self.end_s = 0.0  # end of the last segment: later ones must not begin before it
        self._count = 0

    def place(self, window: Window, result: WindowResult) -> list[Segment]:
        """Segments of `result` in file time, numbered across the request."""
        time = FileTime(window)
        return [self._place(segment, window, time) for segment in result.segments]

    def _place(self, segment: Segment, window: Window, time: FileTime) -> Segment:
        words = [_in_file(word, time) for word in segment.words or ()]
        # As faster-whisper does: with words, the segment's times are theirs.
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
    """A word is placed in one span of speech: that of its middle, even if its times cross a boundary."""
    span = time.span_at((word.start + word.end) / 2)
    return replace(word, start=time.of(word.start, span=span), end=time.of(word.end, span=span))


def _within(words: list[Word], start: float, end: float) -> list[Word]:
    """The same words, in chronological order and clipped to [start, end]."""
    placed = []
    for word in words:
        start = min(max(word.start, start), end)
        placed.append(replace(word, start=start, end=min(max(word.end, start), end)))
        start = placed[-1].end
    return placed
