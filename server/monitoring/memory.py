"""What the server's processes and its GPUs hold of memory, read when somebody asks. Not for an event loop."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from server.monitoring.nvml import GpuMemory, Nvml
from server.system.machine import proportional_bytes, resident_bytes

Kind = Literal["main", "engine", "media"]


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that count together; `model` is that of engines."""

    kind: Kind
    model: str
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """What a group holds. In `resident_bytes` a page that processes share counts for each of them."""

    group: Group
    resident_bytes: int
    proportional_bytes: int


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    processes: tuple[GroupMemory, ...] = ()
    gpus: tuple[GpuMemory, ...] = ()


class MemoryReader:
    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml

    def read(self, groups: Iterable[Group]) -> MemorySnapshot:
        """What these hold, and all GPUs; 0 where it can't be told. From any thread."""
        return MemorySnapshot(tuple(map(_held, groups)), tuple(self._nvml.gpus()))


def _held(group: Group) -> GroupMemory:
    return GroupMemory(group, sum(map(resident_bytes, group.pids)), sum(map(proportional_bytes, group.pids)))
