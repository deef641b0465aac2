"""Temporary storage for uploads and decoded audio: unnamed files in a folder private to this user."""

import os
import shutil
import stat
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO

MEMORY_BYTES = 256 << 10  # a file stays in memory up to this size; a form may have eight


class ScratchFolder:
    """A private folder under TMPDIR, created with its first file, and recreated if it disappears."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._remove: weakref.finalize[..., ScratchFolder] | None = None
        self._lock = threading.Lock()

    def file(self) -> IO[bytes]:
        """A new file, already unlinked, so that a crash leaves nothing behind. Raises OSError."""
        return tempfile.TemporaryFile(dir=self._ready(), buffering=0)

    def small_file(self) -> tempfile.SpooledTemporaryFile[bytes]:
        """A file that starts in memory; growing raises OSError."""
        return tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(self._ready()))

    def close(self) -> None:
        """Remove the folder; open files remain usable."""
        if self._remove:
            self._remove()

    def _ready(self) -> Path:
        with self._lock:
            if self._folder is None or not _is_private(self._folder):
                self._folder = self._new_folder()
            return self._folder

    def _new_folder(self) -> Path:
        """Use a new name each time: in a world-writable directory, another user may have taken the old one."""
        if self._remove:
            self._remove.detach()
        parent = Path(tempfile.gettempdir())
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="sotto-", dir=parent))
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def _is_private(folder: Path) -> bool:
    """True if it exists, and only this user may enter it."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return status.st_mode == stat.S_IFDIR | stat.S_IRWXU and status.st_uid == os.geteuid()
