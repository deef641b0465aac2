"""The resources of the machine that this process may use; by cgroups too, of which psutil knows nothing."""

import math
import os
import resource
from pathlib import Path
from typing import NamedTuple

CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
MOUNTS = Path("/proc/self/mounts")
STATM = Path("/proc/self/statm")
PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
AVX512 = {"avx512f", "avx512cd", "avx512vl", "avx512bw", "avx512dq"}


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may keep busy: the smaller of its affinity mask and its cgroup's quota, at least 1.

    OpenMP and CTranslate2 count hardware threads and so overcommit inside a container with a quota.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota(cgroup)))


def open_files() -> float:
    """Maximum number of open files of this process, once `allow_open_files` was called."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if hard == resource.RLIM_INFINITY else hard


def allow_open_files() -> None:
    """Raise that limit to its maximum: the default is low for the sake of old programs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def has_avx512(cpuinfo: Path = CPUINFO) -> bool:
    """True if the CPU has the AVX-512 instructions that CTranslate2 is built for; False if unknown."""
    try:
        flags = next(line for line in cpuinfo.read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return set(flags.split()) >= AVX512


class Memory(NamedTuple):
    """Bytes of RAM that this process's container, or the machine, may use; and approximately how many are free."""

    allowed: int
    free: int


def memory(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> Memory | None:
    """The memory limits of this process; None if unknown."""
    try:
        rows = (line.split() for line in meminfo.read_text().splitlines())
        kib = {name: int(value) for name, value, *_ in rows}
        total, free = kib["MemTotal:"] << 10, kib["MemAvailable:"] << 10
    except (OSError, KeyError):
        return None
    allowed = min(total, _memory_limit(cgroup))
    return Memory(allowed, min(free, allowed))


def filesystem(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that contains `folder`, such as tmpfs; empty if unknown."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    holding = [(len(point), kind) for _, point, kind, *_ in rows if folder.resolve().is_relative_to(point)]
    return max(reversed(holding), key=lambda held: held[0], default=(0, ""))[1]  # the last mount hides earlier ones


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process in bytes, by default of this one; 0 if unknown."""
    try:
        return int((STATM if pid is None else PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def proportional_bytes(pid: int) -> int:
    """The same, with a page shared by n processes counted as 1/n; 0 if unknown.

    The kernel walks all pages for this: milliseconds, more for a process of many gigabytes.
    """
    try:
        rows = (line.split() for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines())
        return next((int(value) << 10 for name, value, *_ in rows if name == "Pss:"), 0)
    except OSError:
        return 0


def children_of(pid: int) -> list[int]:
    """The child processes of the single-threaded process `pid`; none if it has ended."""
    try:
        return [int(child) for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except OSError:
        return []


def _quota(cgroup: Path) -> int:
    """CPUs of the cgroup's quota, rounded up; a very large number without a quota. Reads versions 2 and 1."""
    unlimited = 1 << 16
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return unlimited
    if quota == "max" or int(quota) <= 0:
        return unlimited
    return math.ceil(int(quota) / int(period))


def _memory_limit(cgroup: Path) -> int:
    """Bytes; a very large number without a limit. Reads versions 2 and 1."""
    for file in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            return int(file.read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return 1 << 62
