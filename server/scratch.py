"""Where uploads and decoded audio lie: in files without names, in a folder that nobody else may enter."""

import shutil
import tempfile
import threading
import weakref
from pathlib import Path
from typing import IO

MEMORY_BYTES = 1 << 20  # of a file that may stay in memory until it is larger


class Scratch:
    """A private folder under TMPDIR, made with its first file, and again if somebody has removed it."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock = threading.Lock()

    def file(self) -> IO[bytes]:
        """A new file, already unlinked: nothing is left of it after a crash. Raises OSError."""
        return tempfile.TemporaryFile(dir=self._ready(), buffering=0)

    def small_file(self) -> tempfile.SpooledTemporaryFile[bytes]:
        """One that lies in memory at first; growing raises OSError."""
        return tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(self._ready()))

    def close(self) -> None:
        """Remove the folder; open files live on without it."""
        if self._folder:
            self._remove()

    def _ready(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="sotto-"))
                self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            return self._folder
