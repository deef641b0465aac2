"""Windows for the model: speech packed up to 30 s, cut between utterances or at the quietest point."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from server.audio.speech import Samples, SpeechEnd, SpeechEvent, SpeechStart
from server.options import VadOptions
from server.transcript import FRAME_SAMPLES, MAX_WINDOW_S, SAMPLE_RATE, Span, Window

CUT_WITHIN_S = 5.0  # of a window's end, at most its second half: speech usually pauses within that time
MAX_PAUSE_S = 2.0  # as faster-whisper: shorter silence is kept, since Whisper transcribes better with it
SMOOTH_FRAMES = 9  # loudness is averaged over 90 ms before the minimum is searched


class WindowPacker:
    """Packs speech into windows: nearly full, and cut at the longest silence of their last part.

    Continuous speech longer than a window is cut at its quietest point. Each span of speech keeps
    `prefix_padding_ms` of audio around it. Silence beyond that is removed, except pauses of up to `MAX_PAUSE_S`
    (also before the end of the file) that fit into the window, so that they add no windows. Windows never
    overlap and come in order. Memory: about one window of loudness values.
    """

    def __init__(self, options: VadOptions) -> None:
        self._limit = int(min(options.window_s, MAX_WINDOW_S) * SAMPLE_RATE)
        self._full = self._limit - min(round(CUT_WITHIN_S * SAMPLE_RATE), self._limit // 2)
        self._padding = min(options.prefix_padding_ms * SAMPLE_RATE // 1000, self._limit // 4)
        self._max_pause = round(MAX_PAUSE_S * SAMPLE_RATE) - 2 * self._padding  # between padded spans
        self._speech: list[Span] = []  # finished, not yet in a window
        self._started: int | None = None  # start of ongoing speech
        self._floor = 0  # end of the last window: padding must not reach before it
        self._position = 0
        self._loudness = np.zeros(0, np.float32)  # mean square per 10 ms frame, from sample `_loudness_from`
        self._loudness_from = 0
        self._count = 0

    def feed(self, block: Samples, events: Iterable[SpeechEvent]) -> list[Window]:
        """Windows that are final after this block. Blocks, except the last, are whole 10 ms frames."""
        self._add_loudness(block)
        for event in events:
            self._note(event)
        windows = list(self._full_windows())
        self._forget()
        return windows

    def close(self, events: Iterable[SpeechEvent]) -> list[Window]:
        """The remaining windows at the end of the file."""
        for event in events:
            self._note(event)
        windows = list(self._full_windows())
        if self._speech:
            self._keep_end()
            windows.append(self._window(len(self._speech), self._position))
        return windows

    def _keep_end(self) -> None:
        """Extend the last speech to the end of the file, if there is only a pause in between and it fits."""
        last = self._speech[-1]
        speech = [*self._speech[:-1], Span(last.start, self._position)]
        if self._position - last.end <= MAX_PAUSE_S * SAMPLE_RATE and self._length(speech) <= self._limit:
            self._speech = speech

    def _note(self, event: SpeechEvent) -> None:
        match event:
            case SpeechStart(sample):
                self._started = sample
            case SpeechEnd(sample) if self._started is not None:
                if sample > self._started:
                    self._speech.append(Span(self._started, sample))
                self._started = None

    def _full_windows(self) -> Iterator[Window]:
        while True:
            speech = [*self._speech, *self._going_on()]
            if not speech or self._length(speech) <= self._limit:
                return
            yield self._cut(speech)

    def _going_on(self) -> list[Span]:
        if self._started is None or self._started >= self._position:
            return []
        return [Span(self._started, self._position)]

    def _cut(self, speech: list[Span]) -> Window:
        """A window from the front of `speech`, which is longer than a window."""
        gaps = {
            count: speech[count].start - speech[count - 1].end
            for count in range(1, len(speech))
            if self._length(speech[:count]) <= self._limit
        }
        if not gaps:
            return self._cut_inside(*speech[:2])
        late = {count: gap for count, gap in gaps.items() if self._length(speech[:count]) >= self._full}
        # Of equal gaps, prefer the later one: fuller windows cost less.
        count = max(late or gaps, key=lambda count: (gaps[count], count))
        middle = (speech[count - 1].end + speech[count].start) // 2
        return self._window(count, max(speech[count].start - self._padding, middle))

    def _cut_inside(self, span: Span, following: Span | None = None) -> Window:
        """A window that ends at the quietest point of its last part: in `span` or in the padding behind it."""
        begin = max(self._floor, span.start - self._padding)
        end = begin + self._limit
        if following is not None:  # padding may reach over it, but the window after this one must get it whole
            end = min(end, following.start)
        cut = self._quietest(max(begin + self._full, span.start + FRAME_SAMPLES), end)
        head, rest = Span(span.start, min(cut, span.end)), Span(cut, span.end)
        if not self._speech:  # ongoing speech
            self._speech, self._started = [head], cut
        elif cut < span.end:
            self._speech[:1] = [head, rest]
        return self._window(1, cut)

    def _window(self, count: int, end: int) -> Window:
        """A window of the first `count` spans, padded up to sample `end` at most; takes them off `_speech`."""
        spans = self._with_pauses(self._padded(self._speech[:count], end))
        del self._speech[:count]
        self._floor = spans[-1].end
        self._count += 1
        return Window(index=self._count - 1, spans=tuple(spans))

    def _padded(self, speech: list[Span], end: int) -> list[Span]:
        padded: list[Span] = []
        for span in speech:
            start = max(self._floor, span.start - self._padding)
            stop = min(span.end + self._padding, end)
            if padded and start <= padded[-1].end:
                padded[-1] = Span(padded[-1].start, stop)
            else:
                padded.append(Span(start, stop))
        return padded

    def _with_pauses(self, spans: list[Span]) -> list[Span]:
        """The spans of a window, merged if only a pause separates them; short pauses are kept first."""
        room = self._limit - sum(map(len, spans))
        pauses = sorted(
            (after.start - before.end, number) for number, (before, after) in enumerate(pairwise(spans))
        )
        joined: set[int] = set()
        for pause, number in pauses:
            if pause > min(room, self._max_pause):
                break
            room -= pause
            joined.add(number)
        ends = [number for number in range(len(spans)) if number not in joined]
        starts = [0, *(number + 1 for number in ends[:-1])]
        return [Span(spans[start].start, spans[end].end) for start, end in zip(starts, ends, strict=True)]

    def _length(self, speech: list[Span]) -> int:
        return sum(len(span) for span in self._padded(speech, self._position))

    def _add_loudness(self, block: Samples) -> None:
        self._position += len(block)
        frames = block[: len(block) // FRAME_SAMPLES * FRAME_SAMPLES].astype(np.float32)
        energy = np.square(frames.reshape(-1, FRAME_SAMPLES)).mean(axis=1)
        self._loudness = np.concatenate([self._loudness, energy])

    def _forget(self) -> None:
        """Drop loudness values that no later cut can need: only ongoing speech can grow too long."""
        needed_from = self._position if self._started is None else self._started
        frames = max(needed_from - self._loudness_from, 0) // FRAME_SAMPLES
        self._loudness = self._loudness[frames:]
        self._loudness_from += frames * FRAME_SAMPLES

    def _quietest(self, start: int, end: int) -> int:
        """Sample in [start, end) where the audio is quietest over 90 ms."""
        first = max(start - self._loudness_from, 0) // FRAME_SAMPLES
        last = max(end - self._loudness_from, 0) // FRAME_SAMPLES
        if not len(self._loudness[first:last]):
            return end
        padded = np.pad(self._loudness, SMOOTH_FRAMES // 2, mode="edge")
        smooth = np.convolve(padded, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), mode="valid")[first:last]
        # Of equally quiet points, prefer the last: fuller windows cost less.
        quietest = len(smooth) - 1 - int(np.argmin(smooth[::-1]))
        return self._loudness_from + (first + quietest) * FRAME_SAMPLES
