"""Folders that look like models to what only looks at files."""

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from server.models.manifest import FileInfo, Manifest, sha256_of

WHOLE = ("config.json", "model.bin", "tokenizer.json", "vocabulary.json")


def filled(folder: Path, *names: str) -> Path:
    """A folder in which each of these files is `{}`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def pulled(folder: Path, repository: str = "me/small") -> Path:
    """A folder as a pull leaves it, with some bytes of its own in each file."""
    filled(folder)
    for name in WHOLE:
        (folder / name).write_bytes(f"{repository} {name}".encode() * 1000)
    facts = {name: FileInfo((folder / name).stat().st_size, sha256_of(folder / name)) for name in WHOLE}
    Manifest(repository, "1" * 40, facts).write(folder)
    return folder


def fill_disk(monkeypatch: pytest.MonkeyPatch, limit_bytes: int) -> None:
    """From now on no file that `Path.open` makes or appends to gets longer: the disk is full."""

    class Cramped(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > limit_bytes:
                super().write(data[: limit_bytes - self.tell()])
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    plain = Path.open

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return Cramped(path, mode) if mode in ("wb", "xb", "ab") else plain(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)


def cached(cache: Path, repository: str, revision: str = "1" * 40, *names: str) -> Path:
    """A snapshot as huggingface_hub leaves it in its cache: links to files that are called by their checksums."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = filled(folder / "snapshots" / revision)
    filled(folder / "blobs")
    for name in names or WHOLE:
        blob = folder / "blobs" / f"{revision[:8]}-{name}"
        blob.write_text("{}")
        (snapshot / name).symlink_to(blob)
    return snapshot
