"""Atomic writes: a file appears only when it is complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end, replacing any existing file.

    Until then it has a hidden name in the same folder; on an exception or interrupt it is removed.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:  # including KeyboardInterrupt
        partial.unlink(missing_ok=True)
        raise
