"""Drops the privileges that reading an untrusted file does not need. Linux only; can't be undone.

Resource limits contain a file that uses too much memory or time. Landlock, if the kernel has it, contains a process
that a file has taken over: it can open no path, make no TCP connection, and signal or trace no other process.
"""

import ctypes
import fcntl
import os
import resource
import signal
import struct
from dataclasses import dataclass

HARD_CPU_S = 2  # from the signal that ends a process to the one that it can't ignore
FIRST_KEPT = 3  # descriptors below are redirected to /dev/null
OUT_OF_THE_WAY = 256  # above every descriptor of a process that calls `keep_only`

CAPABILITY_VERSION, NO_CAPABILITIES = 0x20080522, bytes(24)  # linux/capability.h
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # sys/prctl.h
CREATE_RULESET, RESTRICT_SELF, TELL_VERSION = 444, 446, 1  # linux/landlock.h, on every architecture
FILE_RIGHTS = (0, 13, 14, 15, 15, 16)  # number of file rights, by Landlock version
NET_RIGHTS, NET_SINCE = 0b11, 4  # bind and connect by TCP
SCOPES, SCOPES_SINCE = 0b11, 6  # abstract Unix sockets, signals

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


def keep_only(*files: int) -> list[int]:
    """Close all descriptors except these, which are renumbered from `FIRST_KEPT` on; returns the new numbers."""
    aside = [fcntl.fcntl(file, fcntl.F_DUPFD, OUT_OF_THE_WAY) for file in files]
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(FIRST_KEPT):
        os.dup2(nowhere, number)
    kept = [os.dup2(file, FIRST_KEPT + number) for number, file in enumerate(aside)]
    os.closerange(FIRST_KEPT + len(kept), OUT_OF_THE_WAY + len(kept))
    return kept


def confine(limits: ProcessLimits) -> None:
    """Restrict this process to `limits` and to its open files. It can't open or start anything afterwards."""
    _limit(resource.RLIMIT_AS, _address_space_bytes() + limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, limits.cpu_s, spare=HARD_CPU_S)
    _limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _restrict()
    _limit(resource.RLIMIT_NOFILE, 0)  # open files stay open
    _libc.capset(struct.pack("Ii", CAPABILITY_VERSION, 0), NO_CAPABILITIES)  # as root it could lift these limits


def landlock_version() -> int:
    """The Landlock version of the kernel; 0 if it has none."""
    version: int = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), TELL_VERSION)
    return max(0, version)


def _limit(kind: int, most: int, *, spare: int = 0) -> None:
    """Set a limit, unless it is already lower."""
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY:
        hard = most + spare
    resource.setrlimit(kind, (min(most, hard), min(most + spare, hard)))


def _address_space_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _restrict() -> None:
    """Apply a ruleset that handles every right Landlock knows and grants none."""
    version = landlock_version()
    if not version:
        return
    files = (1 << FILE_RIGHTS[min(version, len(FILE_RIGHTS) - 1)]) - 1
    net = NET_RIGHTS if version >= NET_SINCE else 0
    scopes = SCOPES if version >= SCOPES_SINCE else 0
    rules = struct.pack("QQQ", files, net, scopes)  # trailing zeros are accepted by older kernels
    ruleset = _libc.syscall(CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0 or _libc.syscall(RESTRICT_SELF, ruleset, 0) < 0:
        raise OSError("the kernel rejected the Landlock rules")
    os.close(ruleset)
