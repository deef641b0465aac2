"""How far something long has come: told to whoever asked for it, by default to a bar on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TextIO

PullState = Literal["downloading", "verifying"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` and `total` are bytes of `what`; of a pull, `file` is where it is."""

    what: str
    done: int
    total: int
    file: str = ""
    state: PullState = "downloading"


Report = Callable[[Progress], None]
"""Called often, in the thread that works. What it raises ends the work, which leaves what can be gone on with."""


def ignore(_progress: Progress) -> None:
    """Report to nobody."""


def both(first: Report, second: Report) -> Report:
    """Report to two."""

    def tell(progress: Progress) -> None:
        first(progress)
        second(progress)

    return tell


@contextmanager
def bar(stream: TextIO | None) -> Iterator[Report]:
    """A report that draws on `stream` if that is a terminal; what is done at its first call counts for no speed."""
    from tqdm import tqdm  # not for `sotto --help`

    bars: list[Any] = []

    def show(progress: Progress) -> None:
        if not bars:
            bars.append(tqdm(total=progress.total, initial=progress.done, unit="B", unit_scale=True, file=stream))
        bars[0].set_description(progress.what, refresh=False)
        bars[0].update(progress.done - bars[0].n)

    try:
        yield show if stream and stream.isatty() else ignore
    finally:
        for each in bars:
            each.close()
