"""Which recordings a command line names, and where what is made of each is written. Knows nothing of audio."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.errors import InvalidRequest
from server.options import ResponseFormat

STDIN = Path("-")
EXTENSIONS: dict[ResponseFormat, str] = {
    "text": "txt",
    "json": "json",
    "verbose_json": "json",
    "srt": "srt",
    "vtt": "vtt",
}
BESIDE = "{folder}/{stem}.{ext}"
MEDIA = frozenset(
    "3gp aac ac3 aif aiff amr ape au avi caf dts flac flv m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg mpga "
    "mts oga ogg ogv opus ra rm ts tta vob voc wav weba webm wma wmv wv".split()
)
_NAMED = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to transcribe; `below` is its folder, seen from the directory that was named."""

    path: Path
    below: Path = Path()

    @property
    def stem(self) -> str:
        return "stdin" if self.path == STDIN else self.path.stem


class NothingFound(InvalidRequest):
    """A directory that was named can't be read, or has no recordings."""


def find(named: Iterable[Path]) -> Iterator[InputFile | tuple[Path, OSError | NothingFound]]:
    """Every file that is named, and all in directories whose name is that of a recording; or what is wrong."""
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
    """Where results go: a directory, or a file, whose path may have `{stem}`, `{name}`, `{folder}`, `{ext}` in it.

    In a directory, recordings that were found in folders get folders of the same names.
    """

    where: str = BESIDE

    @property
    def is_directory(self) -> bool:
        """Whether it is one or will be: what is not there and looks like a result is none."""
        path = Path(self.where)
        looks_like_file = _NAMED.search(self.where) or path.suffix[1:] in EXTENSIONS.values()
        return path.is_dir() or not looks_like_file

    def target(self, recording: InputFile, made: ResponseFormat) -> Path:
        if self.is_directory:
            return Path(self.where) / recording.below / f"{recording.stem}.{EXTENSIONS[made]}"
        values = {
            "stem": recording.stem,
            "name": recording.path.name if recording.path != STDIN else recording.stem,
            "folder": str(recording.path.parent),
            "ext": EXTENSIONS[made],
        }

        def value(match: re.Match[str]) -> str:
            if match[1] not in values:
                names = ", ".join(f"{{{name}}}" for name in values)
                raise InvalidRequest(f"--output accepts {names}, not {match[0]}")
            return values[match[1]]

        return Path(_NAMED.sub(value, self.where))

    def check(self, recordings: Sequence[InputFile], made: Sequence[ResponseFormat]) -> None:
        """Raise `InvalidRequest` if two results would be one file, or one would be a recording."""
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
    """Write a file that appears when it is whole; an interrupt leaves nothing of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.part")
    try:
        half.write_bytes(body)
        half.replace(target)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
