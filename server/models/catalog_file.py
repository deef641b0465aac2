"""The file that lists models (models/catalog.toml, or the operator's own): its entries, validated."""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from server.errors import ModelUnavailable
from server.languages import NAMES
from server.models.dimensions import Dimensions
from server.models.manifest import FileInfo, are_facts
from server.models.search_path import snapshot
from server.transcript import MAX_WINDOW_S

VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
# All of them, or loading would fetch missing ones: without tokenizer.json, faster_whisper.WhisperModel downloads
# that of openai/whisper-tiny, which is also the wrong one for large-v3 (SYSTRAN/faster-whisper#835).
REQUIRED = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")
OPTIONAL = ("preprocessor_config.json",)  # without it, a model has 80 mel bands

# The hub's rules; in a folder's name, two consecutive dashes stand for the slash.
REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?<![.-])", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")  # a commit
_WHEEL = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.!+]+ --hash=sha256:[0-9a-f]{64}", re.ASCII)  # a line for pip

NO_PINS: Mapping[str, FileInfo] = {}


@dataclass(frozen=True)
class CatalogEntry:
    """An entry of the catalog, with a `repository` on the hub or a `path`, relative to the catalog or absolute.

    `files` are glob patterns, each of which must match a file. `languages` is "multilingual" or the one code the
    model was trained for. A `demo` knows a few words only. `pinned` has the size and sha256 of files by name, and
    `revision` the repository's commit that contains them; fetched files must match. The same bytes may come from
    other repositories (`mirrors`), from packages of a Python index (`wheels`, lines of a requirements file)
    and from a file made by `export` (`bundle`). `beside` is the folder of the catalog.
    """

    name: str
    beside: Path
    files: tuple[str, ...] = REQUIRED
    languages: str = "multilingual"
    window_s: float = MAX_WINDOW_S
    dynamic_context: bool = False
    demo: bool = False
    dimensions: Dimensions | None = None
    aliases: tuple[str, ...] = ()
    repository: str | None = None
    revision: str | None = None
    mirrors: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    bundle: str | None = None
    path: str | None = None
    pinned: Mapping[str, FileInfo] = field(default_factory=dict)

    @property
    def names(self) -> Iterator[str]:
        """All names of this model: name, aliases, repository ids."""
        yield self.name
        yield from self.aliases
        yield from self.repositories

    @property
    def repositories(self) -> tuple[str, ...]:
        """The hub repositories that hold it, in order of preference."""
        return (self.repository, *self.mirrors) if self.repository else ()

    def without(self, claimed: Collection[str]) -> "CatalogEntry":
        """The same entry without the aliases that another one claims."""
        return replace(self, aliases=tuple(alias for alias in self.aliases if alias.casefold() not in claimed))

    @property
    def is_bundled(self) -> bool:
        """True if it ships with the program."""
        return bool(self.path and self.pinned)

    @property
    def download_bytes(self) -> int | None:
        """The download size in bytes: exact if every file is pinned, else estimated; None if unknown."""
        if self.is_pinned_whole:
            return sum(facts.size for facts in self.pinned.values())
        return self.dimensions.download_bytes if self.dimensions and self.repository else None

    @property
    def is_pinned_whole(self) -> bool:
        """True if the checksum of every file is known."""
        return all(any(fnmatchcase(name, pattern) for name in self.pinned) for pattern in self.files)

    def folder(self, models_dir: Path) -> Path:
        """The folder that a pull fills; for a `path`, that path, which nothing fills."""
        if self.path:
            return self.beside / Path(self.path).expanduser()
        return models_dir / folder_name(self.repository or "")


@dataclass(frozen=True)
class Catalog:
    """The models known by name, in file order; the operator's own come first and take precedence.

    `elsewhere` are additional, read-only folders in which models are looked for.
    """

    models: tuple[CatalogEntry, ...]
    elsewhere: tuple[Path, ...] = ()

    def find(self, name: str) -> CatalogEntry | None:
        """The model of that name, alias or repository id, case-insensitive."""
        wanted = name.strip().casefold()
        return next((model for model in self.models if wanted in map(str.casefold, model.names)), None)

    def at(self, folder: Path, models_dir: Path) -> CatalogEntry | None:
        """The model that is looked for in that folder, and whose names and encoder window it therefore has."""
        place = folder.resolve()
        return next(
            (
                model
                for model in self.models
                if any(each.resolve() == place for each in self.places(model, models_dir))
            ),
            None,
        )

    def meaning(self, label: str, models_dir: Path) -> CatalogEntry | None:
        """The model that a folder of the models directory named `label` would resolve to."""
        return self.find(label) or self.at(models_dir / label, models_dir)

    def places(self, model: CatalogEntry, models_dir: Path) -> Iterator[Path]:
        """The folders in which a model is looked for: where a pull puts it, then those with one of its
        names."""
        if model.path:
            yield model.folder(models_dir)
            return
        for repository in model.repositories:
            yield from self.places_of(repository, models_dir, model.revision)
        for name in (model.name, *model.aliases):
            yield from (folder / name for folder in (models_dir, *self.elsewhere))

    def places_of(self, repository: str, models_dir: Path, revision: str | None = None) -> Iterator[Path]:
        """The folders in which a repository's model is looked for."""
        yield models_dir / folder_name(repository)
        for folder in self.elsewhere:
            yield folder / folder_name(repository)
            if cached := snapshot(folder, repository, revision):
                yield cached


def read(path: Path) -> tuple[CatalogEntry, ...]:
    """Read and validate one file; raises ModelUnavailable as `load`."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("models", {})
        models = tuple(_model(name, table, path.parent) for name, table in tables.items())
        _check_unique(models)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}: {error}") from error
    return models


def spelled(patterns: Collection[str]) -> str:
    """The files that patterns require, in words."""
    return ", ".join(patterns).replace("vocabulary.*", " or ".join(VOCABULARIES))


def folder_name(repository: str) -> str:
    """Name of the folder in the models directory for the model of a repository."""
    return repository.replace("/", "--")


def _model(name: str, table: Any, beside: Path) -> CatalogEntry:
    """One validated entry; raises ValueError."""
    if not isinstance(table, dict):
        raise ValueError(f"model '{name}': must be a table")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    try:
        if "dimensions" in values:
            values["dimensions"] = Dimensions(**values["dimensions"])
        if "pinned" in values:
            values["pinned"] = {file: FileInfo(**facts) for file, facts in values["pinned"].items()}
        model = CatalogEntry(name, beside, **values)
        problem = next(_problems(model), None)
    except TypeError as error:  # a missing or unknown key, or a value of the wrong type
        problem = re.sub(r"^\w+\.__init__\(\) ", "", str(error))
    if problem:
        raise ValueError(f"model '{name}': {problem}")
    return model


def _problems(model: CatalogEntry) -> Iterator[str]:
    # By hand rather than by pydantic: most rules are between keys, and their messages name what the operator wrote.
    for key in ("aliases", "files"):
        names = getattr(model, key)
        if not isinstance(names, tuple) or any(not re.fullmatch(r"[^/\\]+", name) for name in names):
            yield f"{key} must be a list of names without a slash"
    if "/" in model.name:
        yield "its name must not contain a slash"
    if missing_files := [need for need in REQUIRED if not any(fnmatchcase(file, need) for file in model.files)]:
        yield f"files must also include {spelled(missing_files)}"
    if model.languages not in {"multilingual", *NAMES}:
        yield 'languages must be "multilingual" or a code such as "en"'
    if not 0 < model.window_s <= MAX_WINDOW_S:
        yield f"window_s must be above 0 and at most {MAX_WINDOW_S:g}"
    if (model.repository is None) == (model.path is None):
        yield "needs either a repository or a path"
    if model.repository is not None and not REPOSITORY.fullmatch(model.repository):
        yield "repository must be owner/name"
    if not (model.path is None or (isinstance(model.path, str) and model.path)):
        yield "path must be a directory"
    yield from _source_problems(model)
    if model.dimensions and not all(type(each) is int and each > 0 for each in vars(model.dimensions).values()):
        yield "dimensions must be numbers above 0"


def _source_problems(model: CatalogEntry) -> Iterator[str]:
    for name, facts in model.pinned.items():
        if not any(fnmatchcase(name, pattern) for pattern in (*model.files, *OPTIONAL)):
            yield f"pinned names {name}, which is not one of its files"
        if facts.sha256 is None or not are_facts(facts):
            yield f"pinned '{name}' needs a size in bytes and a sha256 of 64 hex digits in lower case"
    if model.revision is not None and not (model.repository and _REVISION.fullmatch(model.revision)):
        yield "revision must be the commit of a repository, 40 hex digits"
    if not _is_list_of(model.mirrors, REPOSITORY) or (model.mirrors and "model.bin" not in model.pinned):
        yield "mirrors must be a list of owner/name, and model.bin pinned"
    if not _is_list_of(model.wheels, _WHEEL) or (model.wheels and not model.is_pinned_whole):
        yield "wheels must be a list of 'name==version --hash=sha256:...', and every file pinned"
    if model.bundle is not None and not (model.repository and isinstance(model.bundle, str) and model.bundle):
        yield "bundle must be a file, of a model with a repository"


def _is_list_of(values: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(values, tuple) and all(isinstance(each, str) and pattern.fullmatch(each) for each in values)


def _check_unique(models: tuple[CatalogEntry, ...]) -> None:
    owners: dict[str, CatalogEntry] = {}
    for model in models:
        for name in model.names:
            if (other := owners.setdefault(name.casefold(), model)) is not model:
                raise ValueError(f"'{name}' means both '{other.name}' and '{model.name}'")
