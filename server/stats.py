"""Statistics of an engine, for health checks, metrics and capacity planning."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from server.options import Priority

MediaEnd = Literal["crashed", "memory", "cpu_time", "stalled", "invalid_message", "no_process", "fork_server"]
EngineState = Literal["loading", "ready", "restarting", "broken", "closed"]
Presence = Literal["available", "loading", "loaded", "broken"]

EDGES_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram of durations: counts per bucket of `EDGES_S`, the last one unbounded; and their sum."""

    counts: tuple[int, ...] = (0,) * (len(EDGES_S) + 1)
    sum_s: float = 0.0

    @property
    def mean_s(self) -> float:
        return self.sum_s / max(1, sum(self.counts))

    def plus(self, duration_s: float) -> Self:
        counts = list(self.counts)
        counts[bisect_left(EDGES_S, duration_s)] += 1
        return type(self)(tuple(counts), self.sum_s + duration_s)


@dataclass(frozen=True, slots=True)
class ServerLoad:
    """The server's load: requests, those whose body is still arriving, bytes on disk, audio.

    `speed` is measured, in seconds of audio per second; initially 0. `refused` counts by the limit reached.
    """

    requests: int = 0
    uploads: int = 0
    upload_bytes: int = 0
    spool_bytes: int = 0
    audio_s: float = 0.0
    speed: float = 0.0
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MediaStats:
    """The processes that decode files, and how many of them ended before their file was done, by reason."""

    pids: tuple[int, ...] = ()
    ended: Mapping[MediaEnd, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Waiting and running windows, and counters since the engine's process started.

    For finished windows: `waits` until their first batch, `runs` from there to the result. `running_s` is the age
    of the oldest batch. A `state` other than ready has a `reason`; `restarts`, `memory_bytes` and `pids` are set
    for an engine with processes of its own.
    """

    queued: int
    running: int
    done: int
    failed: int
    batches: int
    queued_by_class: Mapping[Priority, int] = field(default_factory=dict)
    queued_audio_s: Mapping[Priority, float] = field(default_factory=dict)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    fallbacks: int = 0
    waits: Durations = Durations()
    runs: Durations = Durations()
    cache_bytes: int = 0
    device: str = ""
    compute_type: str = ""
    running_s: float = 0.0
    state: EngineState = "ready"
    reason: str = ""
    restarts: int = 0
    memory_bytes: int = 0
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelCounters:
    """Counts of loads, unloads, evictions (unloads to make room for another model, included in unloads) and failed
    loads."""

    loads: int = 0
    unloads: int = 0
    evictions: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class ModelState:
    """The current state of a model that the server knows. `names` all refer to it; the first is its id. A `demo`
    knows a few words only.

    `reason` is set with `broken` and, while an engine restarts, with `loading`. `estimated_bytes` is the estimated
    memory of the loaded model; `memory_bytes` the actual memory of its processes, 0 if unknown. `requests` use it
    or wait for it, and `queued` and `running` are their windows. Times are in seconds since 1970:
    `expires_at` is None if it stays loaded, and while it is not loaded or in use.
    """

    names: tuple[str, ...]
    presence: Presence
    folder: Path
    size_bytes: int
    languages: tuple[str, ...]
    created: int
    demo: bool = False
    reason: str = ""
    device: str = ""
    compute_type: str = ""
    estimated_bytes: int = 0
    memory_bytes: int = 0
    requests: int = 0
    queued: int = 0
    running: int = 0
    last_used: float | None = None
    expires_at: float | None = None
    counters: ModelCounters = ModelCounters()

    @property
    def name(self) -> str:
        return self.names[0]
