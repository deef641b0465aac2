"""Drops the privileges that reading an untrusted file does not need. Linux only; can't be undone.

Resource limits contain a file that uses too much memory or time. Landlock, if the kernel has it, contains a process
that a file has taken over: it can open no path, make no TCP connection, and signal or trace no other process. A
seccomp filter, if the kernel takes it, refuses every system call that a worker has no use for.
"""

import ctypes
import fcntl
import os
import resource
import signal
import struct
import sys
from dataclasses import dataclass

from server.system.landlock import NOTHING, restrict_to
from server.system.seccomp import filter_system_calls

HARD_CPU_S = 2  # from the signal that ends a process to the one that it can't ignore
FIRST_KEPT = 3  # descriptors below are redirected to /dev/null
OUT_OF_THE_WAY = 256  # above those that files are renumbered to
MOST_DESCRIPTORS = 1 << 20  # Linux's own limit, unless it is raised

# linux/capability.h: effective, permitted and inheritable ones, 32 of each; then the others.
CAPABILITY_VERSION, CAPABILITY_SETS = 0x20080522, struct.Struct("6I")
READ_ANY_FILE = 1 << 2 | 1 << 1  # CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38  # sys/prctl.h

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Limits of a process: memory beyond its current use, CPU time, the size of a file that it writes."""

    memory_bytes: int
    cpu_s: int
    file_bytes: int


def end_with(parent: int) -> None:
    """Have the kernel end this process with its parent, which has this process id and a single thread."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def hide_memory() -> None:
    """Keep other processes of this user from reading this one's memory and environment, and it out of core dumps.

    It lasts until this process starts another program: children can be read, as always. Without effect elsewhere
    than on Linux.
    """
    if sys.platform == "linux":
        _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def keep_only(*files: int) -> list[int]:
    """Close all descriptors except these, which are renumbered from `FIRST_KEPT` on; returns the new numbers."""
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD, OUT_OF_THE_WAY) for file in files]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(FIRST_KEPT):
        os.dup2(nowhere, number)
    kept = [os.dup2(file, FIRST_KEPT + number) for number, file in enumerate(aside)]
    os.closerange(FIRST_KEPT + len(kept), MOST_DESCRIPTORS)
    return kept


def confine(limits: ProcessLimits) -> None:
    """Restrict this process to `limits` and to its open files. It can't open or start anything afterwards."""
    _limit(resource.RLIMIT_AS, _address_space_bytes() + limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, limits.cpu_s, spare=HARD_CPU_S)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    restrict_to(NOTHING)
    _limit(resource.RLIMIT_NOFILE, 0)  # open files stay open
    drop_capabilities()  # as root it could lift these limits
    filter_system_calls()  # last: it refuses the calls above


def drop_capabilities(*, keep: int = 0) -> None:
    """Give up all of root's privileges but those of the bits in `keep`; without effect for others."""
    header = struct.pack("Ii", CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(CAPABILITY_SETS.size)
    _libc.capget(header, held)
    effective, permitted, *_ = CAPABILITY_SETS.unpack(held.raw)
    _libc.capset(header, CAPABILITY_SETS.pack(effective & keep, permitted & keep, 0, 0, 0, 0))


def _limit(kind: int, most: int, *, spare: int = 0) -> None:
    """Set a limit, unless it is already lower."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY:
        hard = most + spare
    resource.setrlimit(kind, (min(most, hard), min(most + spare, hard)))


def _address_space_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
