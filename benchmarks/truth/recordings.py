"""Recordings of real people and sounds with what is said in them: a folder with a `manifest.jsonl`.

The folder is no part of the repository. Its own README says what each field of the manifest means.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FOLDER = "SOTTO_REAL_AUDIO"  # environment variable: where the folder is
USUAL_FOLDER = Path(__file__).parents[2].parent / "shared" / "audio-real"
MANIFEST = "manifest.jsonl"
GROUPS = ("en", "de", "fr")  # language groups by themselves; all others are one group
OTHER = "other"
WORDLESS = frozenset({"noise", "music", "silence"})  # kinds in which nobody speaks


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word with its start and end, s."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Recording:
    """One line of the manifest.

    `language` is a code, empty where the source names none. `references` are the text and its other spellings;
    there are none where the source states no text. `digits` is set where all that is said are digits. `words` are
    those of a reference alignment, where there is one.
    """

    path: Path
    language: str
    kind: str
    duration_s: float
    references: tuple[str, ...] = ()
    digits: str = ""
    words: tuple[TimedWord, ...] = ()

    @classmethod
    def of(cls, entry: dict[str, Any], folder: Path) -> Self:
        """The recording that a line of the manifest describes. Raises KeyError where a field lacks."""
        said = entry["kind"] not in WORDLESS and entry.get("text")
        return cls(
            path=folder / entry["file"],
            language=entry["language"],
            kind=entry["kind"],
            duration_s=entry["seconds"],
            references=(entry["text"], *entry.get("also", ())) if said else (),
            digits=entry.get("digits", ""),
            words=tuple(TimedWord(*word) for word in entry.get("words", ())),
        )

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def group(self) -> str:
        return self.language if self.language in GROUPS else OTHER

    @property
    def is_wordless(self) -> bool:
        """Whether it is known that nobody speaks in it."""
        return self.kind in WORDLESS


def folder() -> Path:
    """Where the recordings are, or should be."""
    return Path(os.environ.get(FOLDER) or USUAL_FOLDER)


def load(folder: Path) -> list[Recording]:
    """All recordings of a folder, in the manifest's order. Raises OSError where there is no manifest."""
    lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    return [Recording.of(json.loads(line), folder) for line in lines]
