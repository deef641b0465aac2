"""The guard that keeps the whole suite on this machine: in this process and in Python children."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.guard.sitecustomize import LOG

ELSEWHERE = ("192.0.2.1", 80)  # an address for documentation: there is nobody


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of its own: what these tests try is not the suite's fault."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    return path


def test_another_machine_is_refused_and_noted(log: Path) -> None:
    with pytest.raises(OSError, match=r"refuses to contact 192\.0\.2\.1"):
        socket.create_connection(ELSEWHERE, timeout=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(OSError, match="refuses"):
        datagrams.sendto(b"?", ELSEWHERE)
    with pytest.raises(OSError, match=r"refuses to contact huggingface\.co"):
        socket.getaddrinfo("huggingface.co", 443)
    assert [line.split()[1:] for line in log.read_text().splitlines()] == [
        ["socket.connect", "192.0.2.1"],
        ["socket.sendto", "192.0.2.1"],
        ["socket.getaddrinfo", "huggingface.co"],
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
def test_this_machine_may_be_reached(log: Path, host: str) -> None:
    with socket.create_server(("", 0)) as server, socket.create_connection((host, server.getsockname()[1])):
        pass
    left, right = socket.socketpair()
    left.close()
    right.close()
    assert log.read_text() == ""


def test_a_python_child_is_held_too(log: Path) -> None:
    code = f"import socket; socket.create_connection({ELSEWHERE})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "refuses to contact 192.0.2.1" in done.stderr
    assert log.read_text().endswith("socket.connect 192.0.2.1\n")


def test_the_environment_of_tests_names_no_proxy() -> None:
    assert [name for name in os.environ if name.lower().endswith("_proxy")] == []
