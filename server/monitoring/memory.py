"""Memory of the server's processes and GPUs, read on demand. Blocking: not for an event loop."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from server.monitoring.nvml import GpuMemory, Nvml
from server.system.machine import proportional_bytes, resident_bytes

Kind = Literal["main", "engine", "media"]


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that are counted together; `model` is set for engines."""

    kind: Kind
    model: str
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """The memory of a group. `resident_bytes` counts a shared page once for each process."""

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
        """Return the memory of `groups` and of all GPUs; 0 where it can't be read. Thread-safe."""
        return MemorySnapshot(tuple(map(_held, groups)), tuple(self._nvml.gpus()))


def _held(group: Group) -> GroupMemory:
    return GroupMemory(group, sum(map(resident_bytes, group.pids)), sum(map(proportional_bytes, group.pids)))
