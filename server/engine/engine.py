"""The engine: windows of all requests in, results out, batched on one model.

A window is up to 30 s of speech. `submit` wraps it in a job and returns a future; worker threads, as many as the
model can run batches at once, do the rest. Each takes a batch from the queue (`fair_queue` decides which windows
that is) and runs one step for all of it:

    encode    samples to encoder output, which is kept in the job so that later steps can reuse it
    decode    one attempt: beam search at temperature 0; if the text is poor, sampling at the next temperature up
    align     where words are in time, if the request asked for them

After the step a job is either finished, and its future has the result, or it returns to the front of the queue for
another step. There it meets windows of other requests in the same state, which have the same key; that is why
fallbacks and alignment are batched too. `Job.key` describes the state of a window, `WindowState` holds it.

For example, a clip C with one window and two recordings, A and B. B asked for words. The rings of the queue, on a
CPU with one worker and batches of four:

    interactive  C: c1
    bulk         A: a1 a2 a3 | B: b1 b2

    [c1]            encoded and decoded, done: C is answered while the recordings wait
    [a1 b1 a2 b2]   encoded and decoded. a1 is done. a2 repeats itself: back, for an attempt at 0.2.
                    b1 and b2 need their words: back, to be aligned

    bulk         B: b1 b2 (align) | A: a2 (0.2) a3

    [b1 b2]         aligned together, done: B is answered
    [a2]            decoded at 0.2 from the encoder output it has, done; a3 has another key
    [a3]            encoded and decoded, done: A is answered

Interruptions:

- An interactive window arrives while bulk is being encoded. On a CPU, windows are encoded one by one, and between
  two of them the batch steps back: it is requeued with its encoder outputs, and the interactive batch runs first.
- A request is cancelled. Its waiting windows are dropped at once, those in a batch after the step.
- A batch fails. Its windows are retried one by one, so that only the bad one fails. If the device itself has
  failed (a lost CUDA context), the engine is lost, and its supervisor starts another process.
- Encoder outputs of waiting windows exceed `cache_bytes`. Further ones are dropped and recomputed when needed.

Knows futures and threads; no HTTP, no asyncio, no files.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace

from server.engine.fair_queue import Batch, FairQueue
from server.engine.interface import Model
from server.engine.job import Job
from server.engine.limits import BatchLimits
from server.errors import Cancelled, Unavailable
from server.options import DecodingOptions, Priority
from server.stats import Durations, EngineStats
from server.transcript import Window, WindowResult
from server.whisper.decoding import WindowState

INTERACTIVE_FOR_S = 60.0  # bulk batches stay short for this long after an interactive window
USUAL_BEAMS = 5  # assumed by the limits; a request with more beams gets smaller batches
POLL_S = 0.05
IDLE_S = 60.0  # without work, after which cached memory is released

logger = logging.getLogger(__name__)


class Engine:
    """Runs windows on one model. Thread-safe; `submit` never blocks."""

    def __init__(self, model: Model, limits: BatchLimits, *, watch: Callable[[], object] = lambda: None) -> None:
        """Take over `model` and start its worker threads; `close` frees both.

        `watch` is called, in a worker, at the beginning and end of each batch.
        """
        self._model = model
        self._limits = limits
        self._watch = watch
        self.max_batch = model.workers * max(self._limits.interactive, self._limits.bulk)
        self._queue: FairQueue[Job] = FairQueue(
            self._limits.max_queued, mix_classes=self._limits.mix_classes, spread=self._limits.spread
        )
        self._lock = threading.Lock()  # guards everything below
        self._running: list[Job] = []
        self._lost = ""
        self._counts: Counter[str] = Counter()
        self._batch_sizes: Counter[int] = Counter()
        self._waits = self._runs = Durations()
        self._interactive_s = float("-inf")
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{number}") for number in range(model.workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, window: Window, options: DecodingOptions, *, request: str, priority: Priority = "bulk"
    ) -> Future[WindowResult]:
        """Queue `window` (with its samples) for `request`; the future resolves to its result or its error.

        Raises `QueueFull`, or `Unavailable` once the engine is closing or its device is lost.
        """
        if self._lost:
            raise Unavailable(self._lost)
        job = Job(self._model.start(window, options), request, priority, self._model)
        self._queue.put(job)
        if priority == "interactive":
            self._interactive_s = job.submitted_s
        return job.future

    def cancel(self, request: str) -> None:
        """Drop the windows of `request`: waiting ones at once, running ones at their next step."""
        waiting = self._queue.remove(request)
        with self._lock:
            for job in self._running:
                job.abandoned |= job.request == request
        for job in waiting:
            job.future.cancel()
            job.fail(Cancelled("The request was cancelled."))

    def position(self, request: str) -> int:
        """Number of other requests scheduled before `request`: 0 while one of its windows runs. A snapshot."""
        with self._lock:
            if any(job.request == request for job in self._running):
                return 0
        return self._queue.ahead(request)

    def turns(self) -> list[str]:
        """The waiting requests, in scheduling order."""
        return self._queue.turns()

    def running(self) -> list[Future[WindowResult]]:
        """Futures of the windows that are in a batch now."""
        with self._lock:
            return [job.future for job in self._running]

    def stats(self) -> EngineStats:
        now_s = time.monotonic()
        jobs = list(self._queue)
        audio_s: dict[Priority, float] = {"interactive": 0.0, "bulk": 0.0}
        for job in jobs:
            audio_s[job.priority] += job.state.window.duration_s
        with self._lock:
            return EngineStats(
                queued=len(jobs),
                running=len(self._running),
                done=self._counts["done"],
                failed=self._counts["failed"],
                batches=self._counts["batches"],
                queued_by_class={priority: sum(job.priority == priority for job in jobs) for priority in audio_s},
                queued_audio_s=audio_s,
                batch_sizes=dict(self._batch_sizes),
                fallbacks=self._counts["fallbacks"],
                waits=self._waits,
                runs=self._runs,
                cache_bytes=_cached(jobs),
                device=self._model.device,
                compute_type=self._model.compute_type,
                running_s=max((now_s - job.taken_s for job in self._running), default=0.0),
                state="broken" if self._lost else "ready",
                reason=self._lost,
            )

    def close(self, drain_s: float = 0.0) -> None:
        """Stop: after at most `drain_s` waiting windows fail; running ones are awaited; the model is freed.

        Threads are joined: one inside CTranslate2 when Python exits would abort the process.
        """
        deadline = time.monotonic() + drain_s
        while (len(self._queue) or self._running) and time.monotonic() < deadline:
            threading.Event().wait(POLL_S)
        for job in self._queue.close():
            job.fail(Unavailable("The server is shutting down."))
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        threads, self._threads = self._threads, []
        if threads:
            self._model.close()

    def _work(self) -> None:
        idle_s: float | None = IDLE_S
        while (take := self._queue.next_batch(self._limit_of, idle_s=idle_s)) is not None:
            if not take.items:
                self._model.trim_memory()
                idle_s = None  # once is enough until there is work again
                continue
            idle_s = IDLE_S
            with self._counted(take):
                self._process(take.items, may_step_back=take.priority == "bulk" and not take.is_bulk_turn)

    def _limit_of(self, job: Job) -> int:
        """Maximum number of windows in a batch that starts with `job`, itself included."""
        limit = self._limits.interactive if job.priority == "interactive" else self._limits.bulk
        if job.aligning:
            return limit
        interactive_arrives = time.monotonic() - self._interactive_s < INTERACTIVE_FOR_S
        if interactive_arrives and not self._limits.mix_classes:
            limit = min(limit, self._limits.interactive)
        if job.state.attempts:  # sampled: every window counts best_of times
            limit //= job.state.options.best_of
        else:
            limit = limit * USUAL_BEAMS // max(USUAL_BEAMS, job.state.options.beam_size)
        return max(1, limit)

    @contextmanager
    def _counted(self, take: Batch[Job]) -> Iterator[None]:
        jobs, began_s = take.items, time.monotonic()
        for job in jobs:
            job.taken_s = began_s
        with self._lock:
            self._running += jobs
        self._watch()
        try:
            yield
        finally:
            with self._lock:
                self._running = [job for job in self._running if job not in jobs]
                self._counts["batches"] += 1
                self._batch_sizes[len(jobs)] += 1
            self._watch()

    def _process(self, jobs: Sequence[Job], *, may_step_back: bool) -> None:
        """Run the next step of `jobs`. If that fails, retry each alone: only the bad one fails."""
        try:
            self._step(jobs, may_step_back)
        except Exception as error:
            if self._is_lost(error):
                self._lose(jobs, error)
            elif len(jobs) > 1:
                logger.warning("a batch of %d windows failed, trying them one by one: %s", len(jobs), error)
                for job in jobs:
                    if not job.future.done():
                        self._process([job], may_step_back=False)
            else:
                logger.exception("window %d of request %s failed", jobs[0].state.window.index, jobs[0].request)
                self._count("failed")
                jobs[0].fail(error)

    def _step(self, jobs: Sequence[Job], may_step_back: bool) -> None:
        if not self._encode(jobs, may_step_back):
            return
        jobs = self._wanted(jobs)
        if jobs and jobs[0].aligning:
            self._align([job.state for job in jobs])
        else:
            self._decode([job.state for job in jobs])
        self._requeue([job for job in self._wanted(jobs) if not self._finish(job)])

    def _encode(self, jobs: Sequence[Job], may_step_back: bool) -> bool:
        """Encode what isn't yet; False if the batch was requeued because interactive work arrived."""
        missing = [job for job in jobs if job.state.encoded is None]
        if self._limits.encode_together:
            if missing:
                self._model.encode([job.state for job in missing])
            return True
        for job in missing:
            if may_step_back and self._steps_back(jobs):
                return False
            if not job.abandoned:
                self._model.encode([job.state])
        return not (may_step_back and self._steps_back(jobs))

    def _steps_back(self, jobs: Sequence[Job]) -> bool:
        """Requeue `jobs` and return True if interactive work is waiting."""
        if not self._queue.waits("interactive"):
            return False
        self._requeue(self._wanted(jobs))
        return True

    def _decode(self, batch: Sequence[WindowState]) -> None:
        if unknown := [one for one in batch if one.options.language is None]:
            self._model.detect(unknown)
        if batch:
            self._model.generate(batch)

    def _align(self, batch: Sequence[WindowState]) -> None:
        # After a failure in the batch, a window that is already aligned may be retried.
        if unplaced := [one for one in batch if one.align_tokens and one.alignment is None]:
            self._model.align(unplaced)

    def _finish(self, job: Job) -> bool:
        """Settle the future of a job that needs no further step."""
        state = job.state
        job.step_done()
        if state.decoded is None:
            self._count("fallbacks")
            return False
        if state.align_tokens and state.alignment is None:
            return False
        result = self._model.result(state)
        state.encoded = None
        job.future.set_result(replace(result, ran_s=self._count_done(job)))
        return True

    def _wanted(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs whose requests have not been cancelled; the others end here."""
        for job in jobs:
            if job.abandoned:
                job.fail(Cancelled("The request was cancelled."))
        return [job for job in jobs if not job.abandoned]

    def _requeue(self, jobs: Sequence[Job]) -> None:
        """Queue jobs for their next step, keeping their encoder output as far as the cache allows."""
        if not jobs:
            return
        room = self._limits.cache_bytes - _cached(self._queue)
        for job in jobs:
            room -= job.state.encoded_bytes
            if room < 0:
                job.state.encoded = None
        if not self._queue.requeue(jobs):
            for job in jobs:
                job.fail(Unavailable("The server is shutting down."))

    def _is_lost(self, error: Exception) -> bool:
        """True if a CUDA context is lost: nothing on this device will work again in this process."""
        text = str(error).lower()
        return self._model.device != "cpu" and ("cuda" in text or "cublas" in text)

    def _lose(self, jobs: Sequence[Job], error: Exception) -> None:
        self._lost = f"The device failed: {error}"
        logger.critical("%s", self._lost)
        for job in [*jobs, *self._queue.close()]:
            job.fail(Unavailable(self._lost))

    def _count_done(self, job: Job) -> float:
        """Count a finished job; returns how long it ran, in s."""
        begun_s = job.begun_s or job.submitted_s
        ran_s = time.monotonic() - begun_s
        with self._lock:
            self._counts["done"] += 1
            self._waits = self._waits.plus(begun_s - job.submitted_s)
            self._runs = self._runs.plus(ran_s)
        return ran_s

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


def _cached(jobs: "Sequence[Job] | FairQueue[Job]") -> int:
    return sum(job.state.encoded_bytes for job in jobs)
