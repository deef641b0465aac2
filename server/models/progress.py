"""Progress of long operations: reported to a callback, by default to a bar on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TextIO

PullState = Literal["downloading", "verifying"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` and `total` are bytes of `what`; for a pull, `file` is the current file."""

    what: str
    done: int
    total: int
    file: str = ""
    state: PullState = "downloading"


Report = Callable[[Progress], None]
"""Called often, in the working thread. Raising aborts the work, which leaves what can be resumed."""


def ignore(_progress: Progress) -> None:
    """Report nothing."""


def both(first: Report, second: Report) -> Report:
    """Report to both."""

    def report(progress: Progress) -> None:
        first(progress)
        second(progress)

    return report


@contextmanager
def bar(stream: TextIO | None) -> Iterator[Report]:
    """A report that draws on `stream` if it is a terminal; bytes before the first call don't count as speed."""
    from tqdm import tqdm  # not needed for `sotto --help`

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
