"""Which models there are: the catalogue (models/catalog.toml), and what a value of SOTTO_MODEL means.

Looks at files only. It never downloads: `resolve` tells what is there and what would have to be pulled.
"""

import difflib
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from server.errors import ModelUnavailable
from server.languages import NAMES
from server.transcript import MAX_WINDOW_S

PACKAGE = Path(__file__).resolve().parent
DATA_FOLDERS = (PACKAGE / "_data", PACKAGE.parent / "models")
CATALOG = "catalog.toml"
BUNDLED = "demo"
SAMPLE = "demo/sample.wav"  # a recording, and what the bundled model hears in it
SAMPLE_TEXT = "Five one seven one six."

VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
# All of them, or loading would fetch what lacks: without tokenizer.json, faster_whisper.WhisperModel takes that
# of openai/whisper-tiny from the hub, besides the wrong one for large-v3 (SYSTRAN/faster-whisper#835).
REQUIRED = ("config.json", "model.bin", "tokenizer.json", "vocabulary.*")
TRANSFORMERS_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Model:
    """An entry of the catalogue; it has a `repository` on the hub or a `path` beside the catalogue.

    `files` are glob patterns, each matched by a usable copy. `languages` is "multilingual" or the one code
    the model was trained for. `sha256` and `size` (bytes) are by file name, for bundled models only.
    """

    name: str
    files: tuple[str, ...]
    languages: str
    window_s: float
    dynamic_context: bool = False
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


@dataclass(frozen=True)
class Catalogue:
    """The models known by name, in the file's order; `root` is the folder that bundled ones lie in."""

    models: tuple[Model, ...]
    root: Path

    def find(self, name: str) -> Model | None:
        """The model of that name, alias or repository id, any case."""
        wanted = name.strip().casefold()
        return next((model for model in self.models if wanted in map(str.casefold, model.names)), None)


@dataclass(frozen=True)
class Found:
    """What a name means. Without a `folder`, `files` of `repository` have to be pulled into `target` first.

    `model` is the catalogue's entry, if it is one; `files` are glob patterns.
    """

    name: str
    target: Path
    folder: Path | None = None
    model: Model | None = None
    repository: str | None = None
    files: tuple[str, ...] = REQUIRED
    window_s: float = MAX_WINDOW_S


def data_path(name: str) -> Path:
    """Where a file that travels with the program lies: in the installed package's data, else in the checkout.

    Raises ModelUnavailable where neither has it.
    """
    for folder in DATA_FOLDERS:
        if (folder / name).exists():
            return folder / name
    places = " nor ".join(str(folder) for folder in DATA_FOLDERS)
    raise ModelUnavailable(f"{name} is neither in {places}: the installation is incomplete")


def load(path: Path | None = None) -> Catalogue:
    """Read and check a catalogue, by default the one that travels with the program.

    Raises ModelUnavailable naming the file, the entry and what is wrong with it.
    """
    path = path or data_path(CATALOG)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("models", {})
        models = tuple(_model(name, table) for name, table in tables.items())
        _check_unique(models)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}: {error}") from error
    return Catalogue(models, path.parent)


def resolve(name: str, models_dir: Path, catalogue: Catalogue | None = None) -> Found:
    """What SOTTO_MODEL means: a catalogue name, else an existing directory, else a repository id.

    For the operator's values only: it looks at directories, so a client's `model` goes to `Catalogue.find`.
    Raises ModelUnavailable for anything else, and for a directory that holds no usable model.
    """
    catalogue = catalogue or load()
    folder = Path(name).expanduser()
    try:
        if model := catalogue.find(name) or _bundled_in(folder, catalogue):
            return _catalogued(model, models_dir, catalogue.root)
        if name.strip() and folder.is_dir():
            check_folder(folder)
            return Found(folder.resolve().name, folder, folder)
        if _REPOSITORY.fullmatch(name) and not folder.exists():
            return _pulled(Found(name, models_dir / _folder_name(name), repository=name))
    except OSError as error:
        raise ModelUnavailable(f"{error.filename} can't be read: {error.strerror}") from error
    raise ModelUnavailable(_unknown(name, folder, catalogue))


def check_folder(folder: Path) -> None:
    """Raise ModelUnavailable unless the folder holds a whole CTranslate2 conversion of a model."""
    lacking = missing(folder)
    if lacking and any(any(folder.glob(pattern)) for pattern in TRANSFORMERS_WEIGHTS):
        source, target = shlex.quote(str(folder)), shlex.quote(f"{folder}-ct2")
        raise ModelUnavailable(
            f"{folder} holds a model in transformers format, which has to be converted first: "
            f"ct2-transformers-converter --model {source} --output_dir {target} "
            "--copy_files tokenizer.json preprocessor_config.json --quantization float16"
        )
    if lacking:
        raise ModelUnavailable(
            f"{folder} is no usable model: it lacks {_spelled(lacking)}. A CTranslate2 conversion has "
            f"{_spelled(REQUIRED)}, and preprocessor_config.json unless it has 80 mel bands."
        )
    with (folder / "model.bin").open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ModelUnavailable(f"{folder}/model.bin is only a Git LFS pointer: run `git lfs pull` there")


def missing(folder: Path, patterns: tuple[str, ...] = REQUIRED) -> list[str]:
    """The patterns that no non-empty file of the folder matches; all of them where there is no folder."""
    there = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    names = [file.name for file in there if file.stat().st_size > 0]
    return [pattern for pattern in patterns if not any(_matches(name, pattern) for name in names)]


def _matches(name: str, pattern: str) -> bool:
    return name in VOCABULARIES if pattern == "vocabulary.*" else fnmatchcase(name, pattern)


def _spelled(patterns: list[str] | tuple[str, ...]) -> str:
    return ", ".join(patterns).replace("vocabulary.*", " or ".join(VOCABULARIES))


def _bundled_in(folder: Path, catalogue: Catalogue) -> Model | None:
    """The bundled model whose own directory this is: it keeps its window length."""
    bundled = {(catalogue.root / model.path).resolve(): model for model in catalogue.models if model.path}
    return bundled.get(folder.resolve())


def _catalogued(model: Model, models_dir: Path, root: Path) -> Found:
    target = root / model.path if model.path else models_dir / _folder_name(model.repository or "")
    found = Found(model.name, target, None, model, model.repository, model.files, model.window_s)
    if model.repository:
        return _pulled(found)
    for name, size in model.size.items():
        if not (target / name).is_file() or (target / name).stat().st_size != size:
            raise ModelUnavailable(
                f"the bundled model '{model.name}' is damaged, install Sotto again: "
                f"{target / name} should be a file of {size} bytes"
            )
    return replace(found, folder=target)


def _pulled(found: Found) -> Found:
    """The same, with its folder where that is whole already."""
    if missing(found.target, found.files):
        return found
    check_folder(found.target)
    return replace(found, folder=found.target)


def _folder_name(repository: str) -> str:
    return repository.replace("/", "--")


def _unknown(name: str, folder: Path, catalogue: Catalogue) -> str:
    if folder.is_file():
        return f"{folder} is a file; a model is the directory around it"
    if name.startswith(("/", "~", ".")):
        return f"there is no directory {folder}"
    known = {spelling.casefold(): spelling for model in catalogue.models for spelling in model.names}
    close = [known[match] for match in difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5)]
    have = ", ".join(model.name for model in catalogue.models)
    hint = f"Did you mean {', '.join(close)}?" if close else f"The catalogue has {have}."
    return (
        f"Unknown model '{name[:200]}': no name of the catalogue, no existing directory, no repository id "
        f"(owner/name). {hint}"
    )


def _model(name: str, table: Any) -> Model:
    """One entry, checked; raises ValueError."""
    if not isinstance(table, dict):
        raise ValueError(f"model '{name}': must be a table")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
    }
    try:
        model = Model(name, **values)
        complaint = next(_complaints(model), None)
    except TypeError as error:  # a key that lacks or is unknown, a value of another type
        complaint = str(error).removeprefix("Model.__init__() ")
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
        yield f"files must name {_spelled(lacking)} too"
    if model.languages not in {"multilingual", *NAMES}:
        yield 'languages must be "multilingual" or a code such as "en"'
    if not 0 < model.window_s <= MAX_WINDOW_S:
        yield f"window_s must be above 0 and at most {MAX_WINDOW_S:g}"
    if (model.repository is None) == (model.path is None):
        yield "needs either a repository or a path"
    if model.repository is not None and not _REPOSITORY.fullmatch(model.repository):
        yield "repository must be owner/name"
    if model.path is not None and not re.fullmatch(r"[\w-]+", model.path):
        yield "path must be one folder's name"
    if not set(model.sha256) == set(model.size) == (set(model.files) if model.path else set()):
        yield "sha256 and size go with every file of a path, and only there"
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
