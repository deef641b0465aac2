"""What can't be undone is done in processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the cage needs Linux")

ROOT = Path(__file__).parents[2]
CONFINED = """
import os, resource, sys, time
from server.system.sandbox import ProcessLimits, confine, keep_only, end_with
file = os.open(sys.argv[1], os.O_RDWR)
confine(ProcessLimits(memory_bytes=64 << 20, cpu_s=1, file_bytes=1000))
"""


def confined(then: str, tmp_path: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Runs `then` in a process that is confined, with an open `file`."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    command = [sys.executable, "-c", before + CONFINED + then, str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)


def test_memory_beyond_the_limit_raises_memory_error(tmp_path: Path) -> None:
    ended = confined("kept = bytes(32 << 20)\ntry: bytes(64 << 20)\nexcept MemoryError: print('full')", tmp_path)
    assert ended.stdout == "full\n"


def test_time_beyond_the_limit_ends_the_process(tmp_path: Path) -> None:
    assert confined("while True: pass", tmp_path).returncode == -signal.SIGXCPU


def test_a_process_that_ignores_the_end_of_its_time_is_killed(tmp_path: Path) -> None:
    ignoring = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)"
    assert confined("while True: pass", tmp_path, ignoring).returncode == -signal.SIGKILL


def test_a_file_grows_no_larger_than_the_limit(tmp_path: Path) -> None:
    ended = confined(
        "print(os.write(file, bytes(2000)))\ntry: os.write(file, b'.')\nexcept OSError as e: print(e.strerror)",
        tmp_path,
    )
    assert ended.stdout.splitlines() == ["1000", "File too large"]


@pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "os.dup(0)",
        "os.close(0); open('/etc/passwd')",
        "os.pipe()",
        "__import__('socket').socket()",
        "os.unlink(sys.argv[1])",
        "os.mkdir(sys.argv[1] + '.d')",
        "os.execv('/bin/true', ['true'])",
        "os.setuid(0) or resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))",
    ],
)
def test_nothing_more_is_opened_or_started(attempt: str, tmp_path: Path) -> None:
    ended = confined(f"try: {attempt}\nexcept (OSError, ValueError): print('refused')", tmp_path)
    assert ended.stdout == "refused\n", ended.stderr


def test_open_descriptors_can_be_read_and_written(tmp_path: Path) -> None:
    ended = confined("os.pwrite(file, b'words', 0); print(os.pread(file, 9, 0))", tmp_path)
    assert ended.stdout == "b'words'\n"


def test_only_the_files_that_are_named_are_kept(tmp_path: Path) -> None:
    script = """
import os, sys
from server.system.sandbox import keep_only
others = [os.dup(0) for _ in range(500)]
one, two, three = (os.open(sys.argv[1], os.O_RDWR | os.O_CREAT) for _ in range(3))
report = os.dup(1)
os.write(two, b"two")
kept = keep_only(report, two, one)
os.write(kept[0], repr([kept, sorted(map(int, os.listdir("/proc/self/fd"))), os.pread(kept[1], 9, 0)]).encode())
"""
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    assert ended.stdout == "[[3, 4, 5], [0, 1, 2, 3, 4, 5, 6], b'two']"  # 6: the listing's own


def test_memory_is_hidden_from_other_processes_but_not_that_of_children(tmp_path: Path) -> None:
    script = """
import ctypes, subprocess, sys
from server.system.machine import proportional_bytes
from server.system.sandbox import hide_memory
hide_memory()
waiting = "import sys; print(flush=True); sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", waiting], stdin=-1, stdout=-1)
child.stdout.readline()
PR_GET_DUMPABLE = 3
print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE), proportional_bytes(child.pid) > 0, proportional_bytes("self") > 0)
child.communicate()
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert ended.stdout == "0 True True\n", ended.stderr


def test_a_process_whose_parent_is_gone_already_ends_at_once() -> None:
    script = "from server.system.sandbox import end_with; end_with(1 << 22)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=100).returncode == 1
    script = f"from server.system.sandbox import end_with; end_with({os.getpid()})"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=100).returncode == 0
