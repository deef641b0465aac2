"""Where uploads and decoded audio lie: in files without names, in a folder that nobody else may enter."""

import os
import shutil
import stat
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO

MEMORY_BYTES = 256 << 10  # of a file that may stay in memory until it is larger; a form may bring eight


class ScratchFolder:
    """A private folder under TMPDIR, made with its first file, and another one if that is gone."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._remove: weakref.finalize[..., ScratchFolder] | None = None
        self._lock = threading.Lock()

    def file(self) -> IO[bytes]:
        """A new file, already unlinked: nothing is left of it after a crash. Raises OSError."""
        return tempfile.TemporaryFile(dir=self._ready(), buffering=0)

    def small_file(self) -> tempfile.SpooledTemporaryFile[bytes]:
        """One that lies in memory at first; growing raises OSError."""
        return tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(self._ready()))

    def close(self) -> None:
        """Remove the folder; open files live on without it."""
        if self._remove:
            self._remove()

    def _ready(self) -> Path:
        with self._lock:
            if self._folder is None or not _is_private(self._folder):
                self._folder = self._new_folder()
            return self._folder

    def _new_folder(self) -> Path:
        """Never one of a name that was ours: where everybody may write, somebody else may have taken that."""
        if self._remove:
            self._remove.detach()
        parent = Path(tempfile.gettempdir())
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="sotto-", dir=parent))
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder


def _is_private(folder: Path) -> bool:
    """Whether it is there, and nobody but this user may enter it."""
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    return status.st_mode == stat.S_IFDIR | stat.S_IRWXU and status.st_uid == os.geteuid()
