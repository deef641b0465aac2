"""One model on several devices: an engine for each; every window is sent to the least busy one."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import reduce
from typing import TypeVar

from server.engine.interface import EngineLike
from server.options import DecodingOptions, Priority
from server.stats import Durations, EngineState, EngineStats
from server.transcript import Window, WindowResult

STATES: tuple[EngineState, ...] = ("ready", "restarting", "loading", "broken", "closed")  # best first
UNUSABLE = STATES[3:]

Key = TypeVar("Key")
Number = TypeVar("Number", int, float)


class MultiDeviceEngine:
    """`EngineLike` over the engines of several devices. A broken engine receives no windows."""

    def __init__(self, engines: Sequence[EngineLike]) -> None:
        self.max_batch = sum(engine.max_batch for engine in engines)
        self._engines = tuple(engines)
        self._lock = threading.Lock()  # guards the counters; results arrive in the engines' threads
        self._open = [Counter[str]() for _ in engines]  # windows without a result, by request

    def submit(
        self,
        window: Window,
        options: DecodingOptions,
        *,
        request: str,
        priority: Priority = "bulk",
        client: str = "",
    ) -> Future[WindowResult]:
        """As `Engine.submit`; once all engines are broken or closed, raises their error."""
        states = [engine.stats().state for engine in self._engines]
        with self._lock:
            place = self._shortest(states)
            self._open[place][request] += 1
        try:
            engine = self._engines[place]
            future = engine.submit(window, options, request=request, priority=priority, client=client)
        except BaseException:
            self._count_off(place, request)
            raise
        future.add_done_callback(lambda _: self._count_off(place, request))
        return future

    def cancel(self, request: str) -> None:
        for engine in self._engines:
            engine.cancel(request)

    def position(self, request: str) -> int:
        """The position at the engine that will reach it first, among those that have windows of it."""
        with self._lock:
            owners = [
                engine for engine, open_now in zip(self._engines, self._open, strict=True) if open_now[request]
            ]
        return min(engine.position(request) for engine in owners or self._engines)

    def stats(self) -> EngineStats:
        """The sum over all engines; the state of the best one."""
        every = [engine.stats() for engine in self._engines]
        return reduce(_sum, sorted(every, key=lambda stats: STATES.index(stats.state)))

    def close(self) -> None:
        for engine in self._engines:
            engine.close()

    def _shortest(self, states: Sequence[EngineState]) -> int:
        usable = [place for place, state in enumerate(states) if state not in UNUSABLE]
        return min(usable or range(len(states)), key=lambda place: self._open[place].total())

    def _count_off(self, place: int, request: str) -> None:
        with self._lock:
            self._open[place][request] -= 1
            self._open[place] += Counter()  # drops counts of 0


def _sum(best: EngineStats, other: EngineStats) -> EngineStats:
    return replace(
        best,
        queued=best.queued + other.queued,
        running=best.running + other.running,
        done=best.done + other.done,
        failed=best.failed + other.failed,
        batches=best.batches + other.batches,
        queued_by_class=_added(best.queued_by_class, other.queued_by_class),
        queued_audio_s=_added(best.queued_audio_s, other.queued_audio_s),
        batch_sizes=_added(best.batch_sizes, other.batch_sizes),
        fallbacks=best.fallbacks + other.fallbacks,
        waits=_together(best.waits, other.waits),
        runs=_together(best.runs, other.runs),
        cache_bytes=best.cache_bytes + other.cache_bytes,
        running_s=max(best.running_s, other.running_s),
        restarts=best.restarts + other.restarts,
        memory_bytes=best.memory_bytes + other.memory_bytes,
        pids=best.pids + other.pids,
    )


def _added(one: Mapping[Key, Number], other: Mapping[Key, Number]) -> dict[Key, Number]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


def _together(one: Durations, other: Durations) -> Durations:
    counts = tuple(a + b for a, b in zip(one.counts, other.counts, strict=True))
    return Durations(counts, one.sum_s + other.sum_s)
