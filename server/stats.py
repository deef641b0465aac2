"""What an engine tells of itself, for health checks, metrics and whoever plans capacity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Priority = Literal["interactive", "bulk"]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What waits and runs now, in windows, and counters since the start; seconds are sums over windows."""

    queued: int
    running: int
    done: int
    failed: int
    batches: int
    queued_by_class: Mapping[Priority, int] = field(default_factory=dict)
    queued_audio_s: Mapping[Priority, float] = field(default_factory=dict)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    fallbacks: int = 0
    wait_s: float = 0.0
    run_s: float = 0.0
    cache_bytes: int = 0
    device: str = ""
    compute_type: str = ""
    lost: bool = False
