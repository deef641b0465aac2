"""A recording with what is said in it, built from one entry of a manifest. Checks every value, touches no file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.languages import code_of

# Names in the manifests of NeMo, Common Voice and Hugging Face, too; of several in one entry the first counts.
FILE_KEYS = ("file", "file_name", "audio_filepath", "audio", "path")
TEXT_KEYS = ("text", "sentence", "transcript", "transcription")
LANGUAGE_KEYS = ("language", "locale", "lang")
LATEST_S = 1e9  # of a word; larger values are not seconds

Entry = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word with its start and end, s."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class LabeledRecording:
    """A recording and its reference. `name` is its name in the manifest.

    `language` is Whisper's code, empty if the manifest names none. `references` are the text and its other
    spellings; empty if no text is stated, or without speech (`is_wordless`). `digits` is set if all that is said
    are digits. `words` are those of a reference alignment.
    """

    name: str
    path: Path
    language: str = ""
    kind: str = ""
    references: tuple[str, ...] = ()
    digits: str = ""
    words: tuple[TimedWord, ...] = ()
    is_wordless: bool = False


def labeled(entry: Entry, folder: Path) -> LabeledRecording:
    """The recording that an entry describes; unknown keys are ignored. Raises ValueError if a value is wrong."""
    name = _text(entry, *FILE_KEYS)
    if not name:
        raise ValueError(f"no recording is named; expected one of {', '.join(FILE_KEYS)}")
    text, digits = _text(entry, *TEXT_KEYS), _digits(entry)
    spoken = text or digits
    return LabeledRecording(
        name=name,
        path=folder / name,
        language=_language(entry),
        kind=_text(entry, "kind") or "",
        references=(spoken, *_spellings(entry)) if spoken else (),
        digits=digits,
        words=tuple(_words(entry)),
        is_wordless=text == "" and not digits,
    )


def _first(entry: Entry, *keys: str) -> tuple[str, object]:
    """The first of `keys` that has a value, and that value; None for null and for what is missing."""
    return next(((key, entry[key]) for key in keys if entry.get(key) is not None), (keys[0], None))


def _text(entry: Entry, *keys: str) -> str | None:
    key, value = _first(entry, *keys)
    return None if value is None else checked_text(value, key)


def checked_text(value: object, key: str) -> str:
    """`value` without the spaces around it. Raises ValueError if it isn't text that can be written as UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"{key} is not text: {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key} is not valid Unicode: {value!r:.60}") from None
    return value.strip()


def _language(entry: Entry) -> str:
    key, value = _first(entry, *LANGUAGE_KEYS)
    tag = "" if value is None else checked_text(value, key)
    code = code_of(tag) if tag else ""
    if code is None:
        raise ValueError(f"{key} is not a language of Whisper: {tag!r:.60}")
    return code


def _digits(entry: Entry) -> str:
    digits = "".join((_text(entry, "digits") or "").split())
    if digits and not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"digits may only contain digits: {digits!r:.60}")
    return digits


def _spellings(entry: Entry) -> Iterator[str]:
    also = entry.get("also") or ()
    for each in (also,) if isinstance(also, str) else _items(also, "also"):
        if text := checked_text(each, "also"):
            yield text


def _words(entry: Entry) -> Iterator[TimedWord]:
    for each in _items(entry.get("words") or (), "words"):
        match each:
            case [word, start, end] | {"word": word, "start": start, "end": end}:
                yield TimedWord(checked_text(word, "words"), *_times(start, end))
            case _:
                raise ValueError(f"words has an item that is not [word, start, end]: {each!r:.60}")


def _items(values: object, key: str) -> list[object] | tuple[object, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{key} is not a list: {values!r:.60}")
    return values


def _times(start: object, end: object) -> tuple[float, float]:
    """Both in seconds, the end not before the start."""
    match start, end:
        case (int() | float(), int() | float()) if 0 <= start <= end < LATEST_S:
            return float(start), float(end)
    raise ValueError(f"words has invalid times in seconds: {start!r:.40}, {end!r:.40}")
