"""The manifest beside a model's files (`source.json`): their origin, sizes and checksums.

Written by a pull, by an import and, for manually installed files, by `sotto models verify --record`. A bundle
begins with it.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from server.system.atomic_file import atomic_file

NAME = "source.json"
CHUNK_BYTES = 1 << 20
# A visible file directly in the folder: no path can lead out of it.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class FileInfo:
    """A file's size in bytes, and the sha256 of its content, which is unknown while it is pulled."""

    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """`repository` and `revision` are the hub's; without them the files came from elsewhere. `source` describes
    where they were fetched from, in words."""

    repository: str | None = None
    revision: str | None = None
    files: Mapping[str, FileInfo] = field(default_factory=dict)
    source: str | None = None

    @property
    def size(self) -> int:
        return sum(facts.size for facts in self.files.values())

    def misfits(self, folder: Path) -> list[str]:
        """The files that are missing in the folder or have another size."""
        return [name for name, facts in self.files.items() if size_of(folder / name) != facts.size]

    def dump(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    def write(self, folder: Path) -> None:
        """Write it atomically: a manifest is complete or absent."""
        with atomic_file(folder / NAME) as file:
            file.write(self.dump())


def read(folder: Path) -> Manifest:
    """The folder's manifest; an empty one if it is missing or malformed."""
    try:
        return parse((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return Manifest()


def parse(content: bytes) -> Manifest:
    """Parse untrusted content; raises ValueError with the reason."""
    try:
        parsed = json.loads(content)
        files = {name: FileInfo(**facts) for name, facts in parsed["files"].items()}
        record = Manifest(parsed["repository"], parsed["revision"], files, parsed.get("source"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("it is not a manifest of a model") from error
    if not all(
        each is None or isinstance(each, str) for each in (record.repository, record.revision, record.source)
    ):
        raise ValueError("repository, revision and source must be text")
    for name, facts in files.items():
        if not is_plain(name) or not are_facts(facts):
            raise ValueError(f"it lists {name[:100]!r}, which is not a file of a model or has no size and sha256")
    return record


def is_whole(folder: Path, patterns: Sequence[str]) -> bool:
    """True if each pattern matches a non-empty file, and no file has another size than recorded."""
    try:
        sizes = {file.name: size for file in folder.iterdir() if (size := file.stat().st_size)}
    except OSError:
        return False
    return not unmatched(sizes, patterns) and not read(folder).misfits(folder)


def unmatched(names: Collection[str], patterns: Sequence[str]) -> list[str]:
    """The patterns that match none of the names."""
    return [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]


def is_plain(name: str) -> bool:
    """True if a name is allowed for a model's folder or file: letters, digits and `_.+-`, not hidden."""
    return bool(_PLAIN.fullmatch(name))


def sha256_of(path: Path, on_chunk: Callable[[int], None] = lambda size: None) -> str:
    """The file's sha256; `on_chunk` is called with the size of each chunk, in bytes."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            on_chunk(len(chunk))
    return sha256.hexdigest()


def size_of(path: Path) -> int:
    """Size in bytes; 0 if it is no file."""
    return path.stat().st_size if path.is_file() else 0


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk before anything relies on them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def are_facts(facts: Any) -> bool:
    """True if the values are a size in bytes and a sha256, or no sha256 yet; they are untrusted."""
    known = isinstance(facts.sha256, str) and _SHA256.fullmatch(facts.sha256) is not None
    return (known or facts.sha256 is None) and type(facts.size) is int and facts.size > 0
