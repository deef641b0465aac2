"""The filter is installed in processes of their own, as it can't be undone."""

import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.system import seccomp

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not seccomp.is_supported(), reason="this kernel filters no system calls"
)

ROOT = Path(__file__).parents[2]
NUMBERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}
FILTERED = """
import ctypes, errno, os, signal, sys, threading, time
from server.system.sandbox import ProcessLimits, confine
libc = ctypes.CDLL(None, use_errno=True)
own = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
def called(name, *arguments):
    ctypes.set_errno(0)
    print(errno.errorcode.get(ctypes.get_errno() if libc[name](*arguments) < 0 else 0, "done"))
confine(ProcessLimits(memory_bytes=256 << 20, cpu_s=60, file_bytes=1000))
"""


def filtered(then: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FILTERED + then, str(tmp_path / "file")]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)


@pytest.mark.parametrize(
    "attempt",
    [
        "'unshare', 1 << 28",
        "'setns', 0, 0",
        "'chmod', b'/etc/passwd', 0o777",
        "'fchmod', own, 0o777",
        "'ptrace', 0, 0, 0, 0",
        "'socket', 1, 1, 0",
        "'mount', 0, 0, 0, 0, 0",
        "'rename', b'/etc/passwd', b'/etc/passwd2'",
        "'setxattr', b'/tmp', b'user.a', b'b', 1, 0",
        "'prctl', 38, 1, 0, 0, 0",
        "'personality', 0",
        "'process_vm_readv', os.getppid(), 0, 0, 0, 0, 0",
        "'kill', os.getppid(), 0",
        "'setpriority', 0, os.getppid(), 19",
        "'setpriority', 2, 0, 19",
        "'syscall', 250 if os.uname().machine == 'x86_64' else 219, 0, 0, 0, 0, 0",  # keyctl
        "'syscall', 424, 1, 0, 0, 0",  # pidfd_send_signal
        "'syscall', 425, 1, 0",  # io_uring_setup
        "'syscall', 321 if os.uname().machine == 'x86_64' else 280, 0, 0, 0",  # bpf
    ],
)
def test_what_no_decoder_needs_is_refused(attempt: str, tmp_path: Path) -> None:
    ended = filtered(f"called({attempt})", tmp_path)
    assert ended.stdout == "EPERM\n", ended.stderr


@pytest.mark.parametrize("attempt", ["os.stat('/etc/passwd')", "os.lstat('/')", "os.access('/', 0) or 1 / 0"])
def test_no_path_is_looked_up(attempt: str, tmp_path: Path) -> None:
    ended = filtered(f"try: {attempt}\nexcept (OSError, ZeroDivisionError): print('refused')", tmp_path)
    assert ended.stdout == "refused\n", ended.stderr


@pytest.mark.parametrize("attempt", ["os.fork()", "threading.Thread(target=print).start()"])
def test_new_processes_and_threads_fail_as_at_a_limit_of_processes(attempt: str, tmp_path: Path) -> None:
    ended = filtered(f"try: {attempt}\nexcept (BlockingIOError, RuntimeError): print('refused')", tmp_path)
    assert ended.stdout == "refused\n", ended.stderr


def test_a_system_call_that_later_kernels_add_does_not_exist(tmp_path: Path) -> None:
    assert filtered("called('syscall', 9999)", tmp_path).stdout == "ENOSYS\n"


def test_the_kernel_has_the_filter(tmp_path: Path) -> None:
    opened = FILTERED.replace("confine(", "status = open('/proc/self/status')\nconfine(")
    command = [sys.executable, "-c", opened + "print(status.read())", str(tmp_path / "file")]
    status = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100).stdout
    assert re.search(r"^Seccomp:\s2$", status, re.M)


@pytest.mark.parametrize(
    ("end", "by"),
    [("os.abort()", "ABRT"), ("os.kill(os.getpid(), signal.SIGTERM)", "TERM"), ("ctypes.string_at(0)", "SEGV")],
)
def test_a_process_can_still_end_itself(end: str, by: str, tmp_path: Path) -> None:
    assert filtered(end, tmp_path).returncode == -signal.Signals[f"SIG{by}"]


def test_what_a_decoder_does_is_let_through(tmp_path: Path) -> None:
    work = """
import gc
blocks = [bytearray(1 << size) for size in range(24)]
del blocks; gc.collect(); libc.malloc_trim(0) if hasattr(libc, 'malloc_trim') else None
signal.signal(signal.SIGUSR1, lambda *_: print('signal')); signal.raise_signal(signal.SIGUSR1)
time.sleep(0.001); time.time(); time.process_time(); os.urandom(9); threading.Lock().acquire(timeout=0.01)
with open(own, 'r+b', closefd=False) as file:
    file.write(b'words'); file.seek(0); print(file.read())
os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + 1)
os.pwrite(own, b'more', 1); print(os.pread(own, 9, 0), len(os.sched_getaffinity(0)) > 0)
"""
    ended = filtered(work, tmp_path)
    assert ended.stdout.splitlines() == ["signal", "b'words'", "b'wmore' True"], ended.stderr


@pytest.mark.parametrize("machine", NUMBERS)
def test_numbers_are_those_of_the_kernel_s_headers(machine: str) -> None:
    header = Path(NUMBERS[machine])
    if not header.exists():
        pytest.skip("no kernel headers here")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.M)
    known = {name: int(number) for name, number in found}
    column = list(NUMBERS).index(machine)
    tables = " / ".join(
        [seccomp.ALLOWED.strip().replace("\n", "/"), seccomp.NEW_PROCESS, seccomp.SIGNALS, seccomp.PRIORITY]
    )
    for row in tables.split("/"):
        name, *numbers = row.split()
        expected = known.get(name)
        assert numbers[column] == ("-" if expected is None else str(expected)), name


def test_without_support_nothing_is_filtered_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise AssertionError("not to be called")

    monkeypatch.setattr(seccomp, "is_supported", lambda: False)
    monkeypatch.setattr(seccomp._libc, "prctl", refuse)
    seccomp.filter_system_calls()


@pytest.mark.parametrize("machine", ["riscv64", "i686", "aarch64_be"])
def test_an_architecture_whose_numbers_are_not_known_has_no_filter(
    monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert not seccomp.is_supported()
