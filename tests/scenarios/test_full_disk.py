"""Disks that are full or gone while the server runs: it says so, and goes on when there is room again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.bad_inputs import silence, wav
from tests.support.fakes import wait_until
from tests.support.serving import Running, serving

SPEECH = "en_02.wav"
MIB = 1 << 20
DISK_BYTES = 32 * MIB
LARGE = wav(silence(200).tobytes())  # 6 MiB, and as much decoded
OWN_DISK = f'mount -t tmpfs -o size={DISK_BYTES} none "$1" && export TMPDIR="$1" && shift && exec "$@"'


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A server with a small disk of its own for temporary files, in a namespace; and the way into it from here."""
    if not _may_mount():
        pytest.skip("this user may not mount a disk in a namespace of its own")
    folder = tmp_path_factory.mktemp("disk")
    with serving("unshare", "-rm", "sh", "-c", OWN_DISK, "sh", str(folder)) as running:
        yield running, Path(f"/proc/{running.process.pid}/root{folder}")


def _may_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/tmp"]  # noqa: S108 - a new one, for nobody else
    try:
        return sys.platform == "linux" and subprocess.run(command, check=False).returncode == 0
    except FileNotFoundError:
        return False


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@contextmanager
def all_taken_but(left_bytes: int, folder: Path) -> Iterator[None]:
    """Somebody else fills the disk; afterwards it is as it was, whatever the server had stored."""
    before = free_bytes(folder)
    filler = folder / "filler"
    filler.write_bytes(bytes(before - left_bytes))
    yield
    filler.unlink()
    wait_until(lambda: free_bytes(folder) == before)


def message_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("left_bytes", "message"),
    [
        (2 * MIB, "The upload can't be stored: No space left on device."),
        (8 * MIB, "Decoded audio can't be stored: No space left on device."),
    ],
    ids=["upload", "decoded audio"],
)
def test_a_full_disk_is_reported_and_the_server_recovers(
    disk: tuple[Running, Path], left_bytes: int, message: str
) -> None:
    server, folder = disk
    assert server.transcribe(LARGE).status_code == 200
    with all_taken_but(left_bytes, folder):
        assert message_of(server.transcribe(LARGE)) == message
        assert server.transcribe(SPEECH).status_code == 200
        assert message_of(server.transcribe(LARGE)) == message
    assert server.transcribe(LARGE).status_code == 200


def test_a_folder_that_is_removed_while_the_server_runs_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    with serving("env", f"TMPDIR={folder}") as server:
        assert server.transcribe(SPEECH).status_code == 200
        shutil.rmtree(folder)
        assert server.transcribe(SPEECH).status_code == 200
        assert server.transcribe(LARGE).status_code == 200
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_recreated_is_an_error_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    with serving("env", f"TMPDIR={folder}") as server:
        assert server.transcribe(SPEECH).status_code == 200
        shutil.rmtree(folder)
        folder.touch()  # something else is in its place
        assert "can't be stored: " in message_of(server.transcribe(SPEECH))
        folder.unlink()
        assert server.transcribe(SPEECH).status_code == 200
