"""Reads manifests: JSON Lines, tables with a header (CSV, TSV), or text files beside their recordings.

A wrong entry is an error that names file and line. Whether the recordings exist is found out when they are opened.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from os.path import exists
from pathlib import Path

from server.errors import InvalidRequest
from server.evaluation.recordings import FILE_KEYS, Entry, LabeledRecording, labeled

DELIMITERS = "\t,;"
SPELLINGS = "|"  # between those in the column `also` of a table
CLIPS = "clips"  # the folder beside its tables in which Common Voice keeps its recordings
TEXT = ".txt"

Entries = Iterator[tuple[int, Entry]]


class InvalidManifest(InvalidRequest):
    """Names the file, and the line if one is wrong."""

    def __init__(self, path: Path, reason: str, line: int | None = None) -> None:
        super().__init__(f"{path}, line {line}: {reason}" if line else f"{path}: {reason}")


def load(path: Path) -> list[LabeledRecording]:
    """All recordings of a manifest, in its order. Raises `InvalidManifest`, and OSError if it can't be read."""
    text = _decoded(path)
    entries = _json_lines(path, text) if text.lstrip()[:1] in ("{", "[") else _rows(path, text)
    lines: dict[Path, int] = {}
    recordings = []
    for line, entry in entries:
        try:
            recording = _located(labeled(entry, path.parent))
        except ValueError as error:
            raise InvalidManifest(path, str(error), line) from error
        if (first := lines.setdefault(recording.path, line)) != line:
            raise InvalidManifest(path, f"{recording.name} is already in line {first}", line)
        recordings.append(recording)
    if not recordings:
        raise InvalidManifest(path, "it has no recordings")
    return recordings


def beside(folder: Path, recordings: Iterable[Path]) -> list[LabeledRecording]:
    """Those of `recordings`, in `folder`, that have a text file of the same name. Raises `InvalidManifest` if none
    has one, and OSError."""
    named = [(each, each.with_suffix(TEXT)) for each in recordings]
    found = [
        labeled({"file": str(each.relative_to(folder)), "text": _decoded(text)}, folder)
        for each, text in named
        if text.is_file()
    ]
    if not found:
        raise InvalidManifest(folder, f"none of its recordings has a {TEXT} file of the same name beside it")
    return found


def _decoded(path: Path) -> str:
    """A file's text, without a byte order mark."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidManifest(path, "it is not UTF-8", line) from error


def _located(recording: LabeledRecording) -> LabeledRecording:
    clip = recording.path.parent / CLIPS / recording.path.name
    # Unlike Path.exists, these are false for what no file can be called.
    return replace(recording, path=clip) if exists(clip) and not exists(recording.path) else recording


def _json_lines(path: Path, text: str) -> Entries:
    # str.splitlines would split at characters that JSON allows in text.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidManifest(path, f"it is not JSON: {error}", number) from error
        if not isinstance(entry, dict):
            raise InvalidManifest(path, "it is not a JSON object; expected one per line and recording", number)
        if entry.get("offset"):  # NeMo's: seconds into the file
            raise InvalidManifest(path, "parts of a recording (offset) are not supported; cut it first", number)
        yield number, entry


def _rows(path: Path, text: str) -> Entries:
    head, _, _ = text.partition("\n")
    delimiter = next((each for each in DELIMITERS if _names_file(_split(head, each))), None)
    if delimiter is None:
        keys = ", ".join(FILE_KEYS)
        raise InvalidManifest(path, f"its first line is neither a JSON object nor a header with one of {keys}", 1)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE
        if delimiter == "\t"
        else csv.QUOTE_MINIMAL,  # Common Voice leaves its marks as they are
        strict=True,
    )
    header: list[str] = []
    line = 1
    try:
        for row in reader:
            if not header:
                header = _header(path, row)
            elif row:
                yield line, _entry(path, line, header, row)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidManifest(path, f"it is not valid CSV: {error}", line) from error


def _split(head: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in head.split(delimiter)]


def _names_file(columns: Iterable[str]) -> bool:
    return not set(FILE_KEYS).isdisjoint(columns)


def _header(path: Path, row: list[str]) -> list[str]:
    names = [name.strip().lower() for name in row]
    if double := next((name for name in names if name and names.count(name) > 1), None):
        raise InvalidManifest(path, f"column {double!r} occurs twice", 1)
    return names


def _entry(path: Path, line: int, header: list[str], row: list[str]) -> Entry:
    """A row as an entry; `words` can't be in a table."""
    if len(row) != len(header):
        raise InvalidManifest(path, f"it has {len(row)} cells, but the header has {len(header)}", line)
    cells: dict[str, object] = dict(zip(header, row, strict=True))
    cells["words"] = None
    if isinstance(also := cells.get("also"), str):
        cells["also"] = also.split(SPELLINGS)
    return cells
