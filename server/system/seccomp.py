"""A seccomp filter: the system calls that a process may make once its files are open. Linux, x86-64 and arm64 only.

What Landlock and resource limits let through is refused here: new threads and processes, namespaces, keyrings,
modes and attributes of files by path, tracing. The filter is a classic BPF program, which the kernel runs per call.
"""

import ctypes
import errno
import os
import platform
from collections.abc import Iterator
from struct import calcsize, pack

PR_SET_SECCOMP, MODE_FILTER = 22, 2  # linux/prctl.h, linux/seccomp.h
KILL_PROCESS, ERROR, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # the filter's answers
LOAD, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
ARGUMENT_BYTES = 8  # of which the low half is compared: the kernel's own type is an int
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
FIRST_UNKNOWN = 470  # system calls of later kernels, of which a newer C library does without

# Name, number on x86-64 and on arm64. Measured with every format of the test suite; the others are
# harmless, and other versions of the C library, of Python or of the codecs may call them. Frequent ones come first.
ALLOWED = """
    brk 12 214 / lseek 8 62 / read 0 63 / sendto 44 206 / futex 202 98 / pread64 17 67 / pwrite64 18 68 / write 1 64
    rt_sigprocmask 14 135 / madvise 28 233 / mmap 9 222 / munmap 11 215 / mremap 25 216 / mprotect 10 226
    fstat 5 80 / close 3 57 / readv 19 65 / writev 20 66 / fadvise64 221 223 / ftruncate 77 46
    fsync 74 82 / fdatasync 75 83 / mincore 27 232
    recvfrom 45 207 / recvmsg 47 212 / shutdown 48 210 / getsockname 51 204 / getpeername 52 205 / getsockopt 55 209
    poll 7 - / ppoll 271 73 / select 23 - / pselect6 270 72
    rt_sigaction 13 134 / rt_sigreturn 15 139 / sigaltstack 131 132 / restart_syscall 219 128
    exit 60 93 / exit_group 231 94
    clock_gettime 228 113 / clock_getres 229 114 / clock_nanosleep 230 115 / nanosleep 35 101 / gettimeofday 96 169
    time 201 - / times 100 153 / getrusage 98 165 / getrandom 318 278
    sched_yield 24 124 / sched_getaffinity 204 123 / getcpu 309 168 / membarrier 324 283
    getpid 39 172 / getppid 110 173 / gettid 186 178
    getuid 102 174 / geteuid 107 175 / getgid 104 176 / getegid 108 177
    getpriority 140 141
    set_robust_list 273 99 / get_robust_list 274 100 / rseq 334 293 / uname 63 160 / sysinfo 99 179
"""
# Allowed on this process only: how a process aborts, and how it gets behind others.
SIGNALS = "tgkill 234 131 / kill 62 129"  # the first argument is a process id
PRIORITY = "setpriority 141 140"  # the first two are PRIO_PROCESS, and 0 for the caller
# Answered as where there are too many processes already, which libraries expect: they do without a thread.
NEW_PROCESS = "clone 56 220 / clone3 435 435 / fork 57 - / vfork 58 -"

REFUSED = pack("HBBI", RETURN, 0, 0, ERROR | errno.EPERM)

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def is_supported() -> bool:
    """True if the kernel takes filters, and the numbers of its system calls are known here."""
    # Without a program: EFAULT where the kernel would read one, EINVAL where it has no filters.
    _libc.prctl(PR_SET_SECCOMP, MODE_FILTER, None, 0, 0)
    return _machine() in ARCHITECTURES and ctypes.get_errno() == errno.EFAULT


def filter_system_calls() -> None:
    """Refuse this thread all system calls but `ALLOWED`, for good; without effect where filters are not supported.

    Others fail with EPERM, but for new threads and processes: EAGAIN. Needs `no_new_privs`. Raises OSError.
    """
    if not is_supported():
        return
    program = b"".join(_instructions(_machine(), os.getpid()))
    if _libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(_Program(len(program) // 8, program)), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel rejected the seccomp filter")


def numbers(table: str, machine: str) -> list[int]:
    """The numbers of a table's system calls on `machine`, which may lack some."""
    column = list(ARCHITECTURES).index(machine) + 1
    rows = [row.split() for line in table.splitlines() for row in line.split("/") if row.strip()]
    return [int(row[column]) for row in rows if row[column] != "-"]


def _machine() -> str:
    """This process's architecture: on a 64-bit kernel it may be one of 32 bits, which has other numbers."""
    return platform.machine() if calcsize("P") == 8 else ""


def _instructions(machine: str, pid: int) -> Iterator[bytes]:
    yield _instruction(LOAD, ARCHITECTURE)
    yield _unless(ARCHITECTURES[machine])
    yield _instruction(RETURN, KILL_PROCESS)
    yield _instruction(LOAD, NUMBER)
    yield from _answer(JUMP_IF_AT_LEAST, FIRST_UNKNOWN, ERROR | errno.ENOSYS)
    for number in numbers(ALLOWED, machine):
        yield from _answer(JUMP_IF_EQUAL, number, ALLOW)
    for number in numbers(NEW_PROCESS, machine):
        yield from _answer(JUMP_IF_EQUAL, number, ERROR | errno.EAGAIN)
    for number in numbers(SIGNALS, machine):
        yield from _allow_with(number, pid)
    for number in numbers(PRIORITY, machine):
        yield from _allow_with(number, 0, 0)
    yield REFUSED


def _allow_with(number: int, *arguments: int) -> Iterator[bytes]:
    """Answer the system call `number`: allowed if it begins with these arguments."""
    checks: list[bytes] = []
    for place, value in enumerate(arguments):
        checks += _instruction(LOAD, FIRST_ARGUMENT + place * ARGUMENT_BYTES), _unless(value), REFUSED
    checks.append(_instruction(RETURN, ALLOW))
    yield pack("HBBI", JUMP_IF_EQUAL, 0, len(checks), number)
    yield from checks


def _unless(value: int) -> bytes:
    """Run the next instruction unless what is loaded is `value`."""
    return pack("HBBI", JUMP_IF_EQUAL, 1, 0, value)


def _answer(test: int, value: int, answer: int) -> Iterator[bytes]:
    """Return `answer` if `test` holds, else go on."""
    yield pack("HBBI", test, 0, 1, value)
    yield _instruction(RETURN, answer)


def _instruction(code: int, value: int) -> bytes:
    return pack("HBBI", code, 0, 0, value)
