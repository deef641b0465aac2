"""Stand-ins with the real interfaces and no weights, and small recordings to feed them.

`FakeModel` is a `server.engine.interface.Model`, `FakeEngine` a `server.engine.interface.EngineLike`. By default
each hears one segment in a window, whose text tells which window it was.
"""

import asyncio
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server.audio.media_decoder import MediaDecoder
from server.audio.scanner import Scanner
from server.options import DecodingOptions, Priority, UploadFd
from server.stats import EngineStats
from server.transcript import SAMPLE_RATE, Segment, Span, Window, WindowResult
from server.whisper.decoding import DecodingResult, WindowState
from tests.support.bad_inputs import DATA, wav

DEADLINE_S = 120.0  # for what takes seconds at most, on a machine that does twenty other things
PEEK = 20  # rounds in which whatever was to happen has happened

Samples = npt.NDArray[np.int16]
Outcome = WindowResult | Exception
Answer = Callable[[Window, DecodingOptions], Outcome]


def wait_until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition` holds; for threads. Fails the test at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come to hold"
        time.sleep(0.001)


async def eventually(condition: Callable[[], bool]) -> None:
    """The same for coroutines."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.to_thread(lambda: None)


async def peek() -> None:
    """Let everything that can happen now happen: what must not happen would have."""
    for _ in range(PEEK):
        await asyncio.to_thread(lambda: None)


def make_window(index: int = 0, start_s: float = 0.0, length_s: float = 1.0) -> Window:
    start = round(start_s * SAMPLE_RATE)
    return Window(index, (Span(start, start + round(length_s * SAMPLE_RATE)),))


def make_segment(start: float = 0.0, end: float = 1.0, text: str = " words") -> Segment:
    return Segment(0, 0, start, end, text, (1, 2), 0.0, -0.3, 1.2, 0.01)


def make_result(
    window: Window,
    *texts: str,
    language: str = "en",
    probs: tuple[tuple[str, float], ...] = (),
    consumed: int | None = None,
) -> WindowResult:
    """A segment for each of `texts`, one behind the other over what of `window` is consumed."""
    consumed = window.length if consumed is None else consumed
    step = consumed / SAMPLE_RATE / max(len(texts), 1)
    segments = tuple(make_segment(n * step, (n + 1) * step, text) for n, text in enumerate(texts))
    return WindowResult(segments, language, consumed, probs)


def default_answer(window: Window, options: DecodingOptions) -> WindowResult:
    """The answer of the fakes by default: the number of the window, in English if no language is given."""
    language = options.language or "en"
    probs = () if options.language else ((language, 0.9), ("de", 0.05))
    return make_result(window, f" w{window.index}", language=language, probs=probs)


def beam_key(options: DecodingOptions) -> Hashable:
    return options.beam_size


class FakeModel:
    """Hears by `answer`; an exception that it returns fails the batch. `hold` makes calls wait for `release`."""

    def __init__(
        self,
        answer: Answer = default_answer,
        *,
        workers: int = 1,
        key: Callable[[DecodingOptions], Hashable] = beam_key,
    ) -> None:
        self.workers = workers
        self.device = "cpu"
        self.compute_type = "int8"
        self._results: dict[WindowState, WindowResult] = {}
        self.batches: list[list[int]] = []  # indexes of the windows of each call, in order of the calls
        self.inside = 0
        self.most_inside = 0
        self.closed = False
        self._answer = answer
        self._key = key
        self._lock = threading.Lock()
        self._go = threading.Event()
        self._go.set()

    def hold(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def start(self, window: Window, options: DecodingOptions) -> WindowState:
        return WindowState(window, options)

    def decode_key(self, state: WindowState) -> Hashable:
        return self._key(state.options)

    def align_key(self, state: WindowState) -> Hashable:
        return state.options.language

    def encode(self, batch: Sequence[WindowState]) -> None:
        for state in batch:
            state.encoded = np.zeros(1)

    def detect(self, batch: Sequence[WindowState]) -> None:
        """Left to `answer`, which names the language."""

    def align(self, batch: Sequence[WindowState]) -> None:
        raise AssertionError("nothing here has words")

    def generate(self, batch: Sequence[WindowState]) -> None:
        with self._lock:
            self.batches.append([state.window.index for state in batch])
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self._go.wait(DEADLINE_S), "held for too long"
        with self._lock:
            self.inside -= 1
        for state in batch:
            self._results[state] = _result_of(self._answer(state.window, state.options))
            state.add_attempt(DecodingResult((), "", 0.0, 0.0, 0.0, 0.0))

    def result(self, state: WindowState) -> WindowResult:
        return self._results[state]

    def trim_memory(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        assert not self.inside, "closed while it runs"
        self.closed = True


def _result_of(outcome: Outcome) -> WindowResult:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@dataclass(eq=False)
class Submission:
    """A window that a `FakeEngine` was given."""

    window: Window
    options: DecodingOptions
    request: str
    priority: Priority
    future: Future[WindowResult] = field(default_factory=Future)


class FakeEngine:
    """Hears by `answer` as soon as a window comes; if `held`, when `resolve` is called for it."""

    def __init__(self, answer: Answer = default_answer, *, max_batch: int = 2, held: bool = False) -> None:
        self.max_batch = max_batch
        self.held = held
        self.submissions: list[Submission] = []
        self.cancelled: list[str] = []
        self.most_waiting = 0
        self.ahead = 0  # what `position` tells
        self.closed = False
        self._answer = answer

    @property
    def waiting(self) -> list[Submission]:
        """In the file's order: the pipeline reads windows from disk in threads, which overtake each other."""
        waiting = [each for each in self.submissions if not each.future.done()]
        return sorted(waiting, key=lambda each: each.window.offset)

    def submit(
        self, window: Window, options: DecodingOptions, *, request: str, priority: Priority = "bulk"
    ) -> Future[WindowResult]:
        submission = Submission(window, options, request, priority)
        self.submissions.append(submission)
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if not self.held:
            self.resolve(submission)
        return submission.future

    def resolve(self, *submissions: Submission) -> None:
        """Answer `submissions`; without any, all that wait, and from now on at once."""
        if not submissions:
            self.held = False
        for each in submissions or self.waiting:
            if not each.future.set_running_or_notify_cancel():
                continue
            outcome = self._answer(each.window, each.options)
            if isinstance(outcome, Exception):
                each.future.set_exception(outcome)
            else:
                each.future.set_result(outcome)

    def cancel(self, request: str) -> None:
        self.cancelled.append(request)
        for each in self.waiting:
            if each.request == request:
                each.future.cancel()

    def position(self, request: str) -> int:
        return self.ahead

    def stats(self) -> EngineStats:
        done = len(self.submissions) - len(self.waiting)
        return EngineStats(len(self.waiting), 0, done, 0, done)

    def close(self) -> None:
        self.closed = True


def make_media(*, workers: int = 2, spool_bytes: int = 1 << 30, max_audio_s: float = 3600.0) -> MediaDecoder:
    """What decodes uploads, in this process."""
    return MediaDecoder(Scanner(), workers=workers, spool_bytes=spool_bytes, max_audio_s=max_audio_s)


def tone(seconds: float) -> Samples:
    """Equally loud all through, so that windows are as long as they may be, and nowhere twice the same."""
    signs = np.random.default_rng(1).integers(0, 2, round(seconds * SAMPLE_RATE), np.int16)
    return signs * np.int16(16_000) - np.int16(8_000)


@contextmanager
def upload(source: str | bytes | Samples) -> Iterator[UploadFd]:
    """An open upload: a file of tests/data by its name, the bytes of any, or samples as a WAV."""
    match source:
        case str(name):
            data = (DATA / name).read_bytes()
        case bytes(data):
            pass
        case samples:
            data = wav(samples.tobytes())
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield UploadFd(file.fileno(), len(data), source if isinstance(source, str) else "generated.wav")


@contextmanager
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody else listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port: int = taken.getsockname()[1]
        yield port
