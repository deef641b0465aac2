"""The engine: windows of all requests in, results out, batched on one model.

Worker threads take what waits in order of arrival and run it together as far as batch keys allow. Knows
futures and threads; no HTTP, no asyncio, no files.
"""

import logging
import threading
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from server.errors import QueueFull, Unavailable
from server.options import DecodingOptions
from server.transcript import Window, WindowResult

Priority = Literal["interactive", "bulk"]

MAX_QUEUED = 4096  # windows; the pipeline's own bounds are far below

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What an engine runs: one call over a batch. `server.whisper.Whisper` is the real one."""

    workers: int

    def batch_key(self, options: DecodingOptions) -> Hashable: ...

    def transcribe(self, batch: Sequence[tuple[Window, DecodingOptions]]) -> list[WindowResult]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the start, and what is waiting and running now, in windows."""

    queued: int
    running: int
    done: int
    failed: int
    batches: int


@dataclass(eq=False, slots=True)
class Job:
    """A window that waits for its result."""

    window: Window
    options: DecodingOptions
    request: str
    future: Future[WindowResult] = field(default_factory=Future)


class Engine:
    """Runs windows on one model. Thread-safe; `submit` never blocks."""

    def __init__(self, model: Model, *, max_batch: int = 4, max_queued: int = MAX_QUEUED) -> None:
        """Take over `model` and start its worker threads; `close` frees both."""
        self.max_batch = max_batch
        self._model = model
        self._max_queued = max_queued
        self._jobs: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._closing = False
        self._done = self._failed = self._batches = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{number}") for number in range(model.workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, window: Window, options: DecodingOptions, *, request: str, priority: Priority = "bulk"
    ) -> Future[WindowResult]:
        """Queue `window` (with its samples) for `request`; the future ends with its result or its own error.

        Raises `QueueFull`, or `Unavailable` once the engine is closing.
        """
        job = Job(window, options, request)
        with self._changed:
            if self._closing:
                raise Unavailable("The server is shutting down.")
            if len(self._jobs) >= self._max_queued:
                raise QueueFull("Too much audio is waiting for this model.")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def cancel(self, request: str) -> None:
        """Forget the windows of `request` that wait; those already running are left to end, unheard."""
        with self._changed:
            for job in [*self._jobs, *self._running]:
                if job.request == request:
                    job.future.cancel()
            self._jobs = deque(job for job in self._jobs if job.request != request)

    def stats(self) -> EngineStats:
        with self._changed:
            return EngineStats(len(self._jobs), len(self._running), self._done, self._failed, self._batches)

    def close(self) -> None:
        """Stop: what waits is failed, what runs is awaited, threads are joined, the model is freed.

        Joining is not optional: a thread inside CTranslate2 when Python ends aborts the process.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            waiting, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for job in waiting:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(Unavailable("The server is shutting down."))
        for thread in self._threads:
            thread.join()
        self._model.close()

    def _work(self) -> None:
        while batch := self._take():
            failed = self._run(batch)
            with self._changed:
                self._running = [job for job in self._running if job not in batch]
                self._batches += 1
                self._failed += failed
                self._done += len(batch) - failed

    def _take(self) -> list[Job]:
        """The first job that waits and those right behind it with an equal key; nothing when closing."""
        with self._changed:
            while True:
                while not self._jobs and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return []
                batch: list[Job] = []
                while self._jobs and len(batch) < self.max_batch and self._fits(self._jobs[0], batch):
                    job = self._jobs.popleft()
                    if job.future.set_running_or_notify_cancel():
                        batch.append(job)
                if batch:
                    self._running += batch
                    return batch

    def _fits(self, job: Job, batch: Sequence[Job]) -> bool:
        return not batch or self._key(job) == self._key(batch[0])

    def _key(self, job: Job) -> Hashable:
        try:
            return self._model.batch_key(job.options)
        except Exception:  # options that the model can't take: alone in its batch, the job fails alone
            return id(job)

    def _run(self, batch: Sequence[Job]) -> int:
        """Settle every future of `batch` and count the failed ones.

        If the batch fails, each member is tried alone: only the bad one fails.
        """
        try:
            results = self._model.transcribe([(job.window, job.options) for job in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"the model gave {len(results)} results for {len(batch)} windows")
        except Exception as error:
            if len(batch) > 1:
                logger.warning("a batch of %d windows failed, trying them one by one: %s", len(batch), error)
                return sum(self._run([job]) for job in batch)
            logger.exception("window %d of request %s failed", batch[0].window.index, batch[0].request)
            batch[0].future.set_exception(error)
            return 1
        for job, result in zip(batch, results, strict=True):
            job.future.set_result(result)
        return 0
