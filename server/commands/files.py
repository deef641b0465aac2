"""Finds the recordings that a command line names, and the paths of their results. Independent of audio."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.errors import InvalidRequest
from server.formats.render import FORMATS
from server.options import ResponseFormat
from server.system.atomic_file import atomic_file

STDIN = Path("-")
EXTENSIONS = frozenset(each.extension for each in FORMATS.values())
BESIDE = "{folder}/{stem}.{ext}"
MEDIA = frozenset(
    "3gp aac ac3 aif aiff amr ape au avi caf dts flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mpga "
    "mts oga ogg ogv opus ra rm ts tta vob voc wav weba webm wma wmv wv".split()
)
_NAMED = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to transcribe; `below` is its folder, relative to the directory on the command line."""

    path: Path
    below: Path = Path()

    @property
    def stem(self) -> str:
        return "stdin" if self.path == STDIN else self.path.stem


class NothingFound(InvalidRequest):
    """A directory on the command line can't be read, or has no recordings."""


def find(named: Iterable[Path]) -> Iterator[InputFile | tuple[Path, OSError | NothingFound]]:
    """Yield every file in `named`, and all recordings, by extension, in its directories; or paths with errors."""
    for path in named:
        if path == STDIN or not path.is_dir():
            yield InputFile(path)
        else:
            yield from _inside(path)


def _inside(directory: Path) -> Iterator[InputFile | tuple[Path, OSError | NothingFound]]:
    wrong: list[OSError] = []
    count = 0
    for folder, below, names in os.walk(directory, onerror=wrong.append):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix[1:].lower() in MEDIA and not name.startswith("."):
                count += 1
                yield InputFile(Path(folder, name), Path(folder).relative_to(directory))
    for error in wrong:
        yield Path(error.filename), error
    if not count and not wrong:
        yield directory, NothingFound("it contains no recordings")


@dataclass(frozen=True, slots=True)
class OutputPath:
    """The destination of results: a directory, or a file path with optional `{stem}`, `{name}`, `{folder}`,
    `{ext}`.

    In a directory, results are placed in the same subfolders as their recordings.
    """

    where: str = BESIDE

    @property
    def is_directory(self) -> bool:
        """True if it is a directory or will become one; a missing path that looks like a result is a file."""
        path = Path(self.where)
        looks_like_file = _NAMED.search(self.where) or path.suffix[1:] in EXTENSIONS
        return path.is_dir() or not looks_like_file

    def target(self, recording: InputFile, made: ResponseFormat) -> Path:
        if self.is_directory:
            return Path(self.where) / recording.below / f"{recording.stem}.{FORMATS[made].extension}"
        values = {
            "stem": recording.stem,
            "name": recording.path.name if recording.path != STDIN else recording.stem,
            "folder": str(recording.path.parent),
            "ext": FORMATS[made].extension,
        }

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                names = ", ".join(f"{{{name}}}" for name in values)
                raise InvalidRequest(f"--output accepts {names}, not {match[0]}")
            return values[match[1]]

        return Path(_NAMED.sub(value, self.where))

    def check(self, recordings: Sequence[InputFile], made: Sequence[ResponseFormat]) -> None:
        """Raise `InvalidRequest` if two results have the same path, or one would overwrite a recording."""
        if self.is_directory and Path(self.where).exists() and not Path(self.where).is_dir():
            raise InvalidRequest(f"--output {self.where} is neither a directory nor the name of a result")
        sources = {recording.path.absolute() for recording in recordings}
        targets = Counter(self.target(recording, each) for recording in recordings for each in made)
        for target, results in targets.items():
            if results > 1:
                raise InvalidRequest(f"{results} results would be written to {target}")
            if target.absolute() in sources:
                raise InvalidRequest(f"{target} is a recording: the result would overwrite it")


def write(target: Path, body: bytes) -> None:
    """Write a file atomically; an interrupt leaves no partial file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        file.write(body)
