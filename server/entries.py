"""The file that lists models (models/catalog.toml, or the operator's own): what its entries say, checked."""

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from server.errors import ModelUnavailable
from server.languages import NAMES
from server.transcript import MAX_WINDOW_S
from server.weights import Dimensions

VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
# All of them, or loading would fetch what lacks: without tokenizer.json, faster_whisper.WhisperModel takes that
# of openai/whisper-tiny from the hub, besides the wrong one for large-v3 (SYSTRAN/faster-whisper#835).
REQUIRED = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")
OPTIONAL = ("preprocessor_config.json",)  # 80 mel bands where a model has none

# As the hub has them; two dashes in a row stand for the slash in a folder's name.
REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?<![.-])", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Model:
    """An entry of the catalogue; it has a `repository` on the hub or a `path`, beside the catalogue or absolute.

    `files` are glob patterns, each matched by a usable copy. `languages` is "multilingual" or the one code
    the model was trained for. A `demo` knows a few words only. `sha256` and `size` (bytes) are by file name, for
    bundled models only. `beside` is the folder of the catalogue.
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
    path: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    size: Mapping[str, int] = field(default_factory=dict)

    @property
    def names(self) -> Iterator[str]:
        """Everything that means this model: name, aliases, repository id."""
        yield self.name
        yield from self.aliases
        if self.repository:
            yield self.repository

    def without(self, claimed: Collection[str]) -> "Model":
        """The same, less the aliases that are another's now."""
        return replace(self, aliases=tuple(alias for alias in self.aliases if alias.casefold() not in claimed))

    @property
    def is_bundled(self) -> bool:
        return bool(self.sha256)

    @property
    def download_bytes(self) -> int | None:
        """What a pull brings, about; None where nobody knows."""
        return self.dimensions.download_bytes if self.dimensions and self.repository else None

    def folder(self, models_dir: Path) -> Path:
        """Where the model lies, once it is there."""
        if self.path:
            return self.beside / Path(self.path).expanduser()
        return models_dir / folder_name(self.repository or "")


@dataclass(frozen=True)
class Catalogue:
    """The models known by name, in the files' order; the operator's own come first, and win."""

    models: tuple[Model, ...]

    def find(self, name: str) -> Model | None:
        """The model of that name, alias or repository id, any case."""
        wanted = name.strip().casefold()
        return next((model for model in self.models if wanted in map(str.casefold, model.names)), None)

    def at(self, folder: Path, models_dir: Path) -> Model | None:
        """The model whose own place that folder is: so it keeps its names and its window."""
        place = folder.resolve()
        return next((model for model in self.models if model.folder(models_dir).resolve() == place), None)


def read(path: Path) -> tuple[Model, ...]:
    """Read and check one file; raises ModelUnavailable as `load`."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("models", {})
        models = tuple(_model(name, table, path.parent) for name, table in tables.items())
        _check_unique(models)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}: {error}") from error
    return models


def spelled(patterns: Collection[str]) -> str:
    """The files that patterns ask for, in words."""
    return ", ".join(patterns).replace("vocabulary.*", " or ".join(VOCABULARIES))


def folder_name(repository: str) -> str:
    """Of the folder in the models directory that holds the repository's model."""
    return repository.replace("/", "--")


def _model(name: str, table: Any, beside: Path) -> Model:
    """One entry, checked; raises ValueError."""
    if not isinstance(table, dict):
        raise ValueError(f"model '{name}': must be a table")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    try:
        if "dimensions" in values:
            values["dimensions"] = Dimensions(**values["dimensions"])
        model = Model(name, beside, **values)
        complaint = next(_complaints(model), None)
    except TypeError as error:  # a key that lacks or is unknown, a value of another type
        complaint = re.sub(r"^\w+\.__init__\(\) ", "", str(error))
    if complaint:
        raise ValueError(f"model '{name}': {complaint}")
    return model


def _complaints(model: Model) -> Iterator[str]:
    for key in ("aliases", "files"):
        names = getattr(model, key)
        if not isinstance(names, tuple) or any(not re.fullmatch(r"[^/\\]+", name) for name in names):
            yield f"{key} must be a list of names without a slash"
    if "/" in model.name:
        yield "its name may not hold a slash"
    if lacking := [need for need in REQUIRED if not any(fnmatchcase(file, need) for file in model.files)]:
        yield f"files must name {spelled(lacking)} too"
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
    if not set(model.sha256) == set(model.size) <= (set(model.files) if model.path else set()):
        yield "sha256 and size go together, and with files of a path only"
    if model.dimensions and not all(type(each) is int and each > 0 for each in vars(model.dimensions).values()):
        yield "dimensions must be numbers above 0"
    if not all(_SHA256.fullmatch(digest) for digest in model.sha256.values()):
        yield "sha256 must be 64 hex digits in lower case"
    if not all(isinstance(size, int) and size > 0 for size in model.size.values()):
        yield "size must be in bytes"


def _check_unique(models: tuple[Model, ...]) -> None:
    owners: dict[str, Model] = {}
    for model in models:
        for name in model.names:
            if (other := owners.setdefault(name.casefold(), model)) is not model:
                raise ValueError(f"'{name}' means both '{other.name}' and '{model.name}'")
