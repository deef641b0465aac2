"""A model on this machine as described by its files."""

import re
from dataclasses import dataclass
from pathlib import Path

from server.models.dimensions import Dimensions
from server.transcript import MAX_WINDOW_S

PATH = re.compile(r"(?<![\w/.~\0-])/(?:[^\s/'\":;,]+/)*([^\s/'\":;,]+)")  # absolute; the group is its last part


@dataclass(frozen=True)
class KnownModel:
    """A model on this machine, loaded or not. The first of its `names` is its id; requests may use any.

    `languages` are those of its kind; a loaded model reports its own. A `demo` knows a few words only. `problem` is
    the reason why its files can't be loaded. `word_shift_s` is what the aligned starts and ends of its words are
    moved by: attention reaches a word before or after it is spoken, by a time that each model has of its own.
    """

    names: tuple[str, ...]
    folder: Path = Path()
    size_bytes: int = 0
    languages: tuple[str, ...] = ()
    window_s: float = MAX_WINDOW_S
    word_shift_s: tuple[float, float] = (0.0, 0.0)
    mels: int = 80
    dimensions: Dimensions | None = None
    dynamic_context: bool = False
    created: int = 0
    demo: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        return self.names[0]

    def without_paths(self, text: str) -> str:
        """`text` for clients, who learn nothing of this machine's folders: its own by name, others not at all."""
        folder = self.folder.absolute()
        text = text.replace(str(folder), "\0")
        for parent in folder.parents[:-1]:  # they may hold spaces, at which PATH ends
            text = text.replace(f"{parent}/", "")
        return PATH.sub(r"\1", text).replace("\0", f"'{self.name}'")
