"""A folder that a model is written to: locked against other processes, checked for disk space, and either complete
or absent."""

import errno
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from server.errors import InsufficientStorage, ModelLocked, ModelUnavailable
from server.models import manifest
from server.system.sizes import in_words

PARTIAL = ".partial"  # suffix of incomplete folders, which may be resumed
FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE_BYTES = 64 << 20  # left free on the disk


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock the folder across processes; a second caller waits, or raises ModelLocked.

    Errors of the disk become InsufficientStorage where it is full, else ModelUnavailable, with their cause.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as lock:
            _lock(lock, wait, folder)
            yield
    except OSError as error:
        kind = InsufficientStorage if error.errno in FULL else ModelUnavailable
        raise kind(f"{folder.parent} (SOTTO_MODELS_DIR) can't be written: {error}") from error


@contextmanager
def growing(folder: Path) -> Iterator[Path]:
    """A hidden folder that becomes `folder` at the end, synced to disk, or is removed on failure.

    Replaces a damaged model of Sotto's with that name; raises ModelLocked for anything else with that name.
    """
    check_replaceable(folder)
    partial = folder.with_name(f".{folder.name}.importing")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    partial.mkdir()
    try:
        yield partial
        for path in (*partial.iterdir(), partial):
            manifest.sync(path)
        settle(partial, folder)
    except BaseException:  # Ctrl-C too
        shutil.rmtree(partial, ignore_errors=True)
        raise


def settle(partial: Path, folder: Path) -> None:
    """Rename a complete model to its final name, replacing what `check_replaceable` accepted; of a link only the
    link."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    manifest.sync(folder.parent)


def check_replaceable(folder: Path) -> None:
    """Raise ModelLocked where a file, or a folder of files that Sotto didn't fetch, has the folder's name.

    A link counts as what it leads to; one that leads nowhere may be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise ModelLocked(f"{folder} is not a folder: remove it")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / manifest.NAME).exists():
        raise ModelLocked(f"{folder} is incomplete but was not pulled by Sotto: complete it, or remove it")


def check_disk_space(folder: Path, needed: int, what: str) -> None:
    """Raise InsufficientStorage unless so many bytes fit on the folder's disk, and some are left then."""
    needed += SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InsufficientStorage(
            f"{what} needs {in_words(needed, 'MB')} more in {folder}, which has {in_words(free, 'MB')} free: "
            "free some space, or use another disk (for models: SOTTO_MODELS_DIR)"
        )


def _lock(file: IO[str], wait: bool, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ModelLocked(f"another process is writing {folder}: try again when it is done") from error
