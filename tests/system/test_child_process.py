import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server.system.child_process import ChildProcess, clean_environment
from tests.support.fakes import DEADLINE_S, wait_until

ROLES = ["loading", "echo", "deaf", "stuck"]
PARENT = """
import sys, time
from server.system.child_process import ChildProcess, clean_environment
child = ChildProcess("tests.support.stub_child", sys.argv[1], environment=clean_environment())
print(child.channel.recv(100).decode(), flush=True)
time.sleep(600)
"""


@contextmanager
def started(role: str) -> Iterator[ChildProcess]:
    child = ChildProcess("tests.support.stub_child", role, environment=clean_environment())
    child.channel.settimeout(DEADLINE_S)
    try:
        assert read(child.channel, until=b"\n") == f"{child.pid}\n".encode()
        yield child
    finally:
        child.close()


def read(channel: socket.socket, *, until: bytes = b"") -> bytes:
    """All up to `until`; without it, up to the end."""
    data = b""
    while (not until or not data.endswith(until)) and (more := channel.recv(1 if until else 4096)):
        data += more
    return data


def test_a_child_has_no_part_in_the_terminal_of_the_server() -> None:
    with started("echo") as child:
        assert os.getsid(child.pid) == child.pid


def test_a_child_communicates_over_its_channel_and_ends_with_it() -> None:
    with started("echo") as child:
        child.channel.sendall(b"one\n")
        assert read(child.channel, until=b"\n") == b"one\n"
        assert child.status is None
        assert child.close(DEADLINE_S) == 0
        assert child.status == 0


def test_a_child_that_exits_has_a_status() -> None:
    with started("status") as child:
        assert read(child.channel) == b""
        wait_until(lambda: child.status is not None)
        assert child.status == 7


@pytest.mark.parametrize("role", ["deaf", "stuck"])
def test_a_child_that_ignores_the_end_of_its_channel_is_killed(role: str) -> None:
    with started(role) as child:
        before = time.monotonic()
        assert child.close(0.2) == -signal.SIGKILL
        assert 0.2 <= time.monotonic() - before < DEADLINE_S


def test_a_child_can_be_killed_by_its_owner() -> None:
    with started("stuck") as child:
        child.kill()
        assert read(child.channel) == b""
        assert child.close() == -signal.SIGKILL
        child.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_handled_by_the_parent(stop: signal.Signals) -> None:
    with started("echo") as child:
        os.kill(child.pid, stop)
        child.channel.sendall(b"still there\n")
        assert read(child.channel, until=b"\n") == b"still there\n"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_loading_child_leaves_signals_to_the_parent_too(stop: signal.Signals) -> None:
    with started("loading") as child:
        os.kill(child.pid, stop)
        assert child.wait(0.2) is None


@pytest.mark.parametrize("role", ROLES)
def test_no_child_outlives_a_parent_that_is_killed(role: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, role], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert int(parent.stdout.readline())
        parent.kill()
        # The child has the same standard error: its end is reached when both have ended.
        assert parent.communicate(timeout=DEADLINE_S)[1] == b""


def test_a_child_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOTTO_API_KEYS", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sk-secret")
    with started("environment") as child:
        names = set(read(child.channel).decode().split())
    # LC_CTYPE is set by Python where no locale is, the others by our own package.
    assert names <= {*clean_environment(), "LC_CTYPE", "ORT_DISABLE_TELEMETRY", "OPENBLAS_NUM_THREADS"}


def test_a_server_folder_in_the_working_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    with started("path") as child:
        folder, *path = read(child.channel).decode().split("\n")
    assert folder == str(tmp_path)
    assert path == sys.path


def test_a_child_has_none_of_the_parent_s_files() -> None:
    ours, theirs = socket.socketpair()
    with ours, started("echo"):
        theirs.close()
        ours.settimeout(DEADLINE_S)
        assert ours.recv(1) == b""  # at once: nobody else holds the other end


def test_a_child_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        ChildProcess("tests.support.stub_child", "echo", environment={})
