"""The catalog of models, and the resolution of a value of SOTTO_MODEL.

Looks at files only and never downloads: `resolve` reports the files present and those to be fetched.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from server.errors import ModelNotFound, ModelUnavailable
from server.models import manifest
from server.models.catalog_file import (
    REPOSITORY,
    REQUIRED,
    VOCABULARIES,
    Catalog,
    CatalogEntry,
    folder_name,
    read,
    spelled,
)
from server.models.conversion import TRANSFORMERS, advice, matching
from server.models.dimensions import SPEC, read_shapes
from server.models.search_path import hub_cache, repository_of
from server.settings import Settings
from server.transcript import MAX_WINDOW_S

PACKAGE = Path(__file__).resolve().parent.parent
DATA_FOLDERS = (PACKAGE / "_data", PACKAGE.parent / "models")
CATALOG = "catalog.toml"
BUNDLED = "demo"
SAMPLE = "demo/sample.wav"  # a recording for the bundled demo model
SAMPLE_TEXT = "Five one seven one six."

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class ModelReference:
    """A resolved model name. Without a `folder`, `files` of `repository` have to be fetched into `target` first.

    `model` is its catalog entry, if it has one; `files` are glob patterns.
    """

    name: str
    target: Path
    folder: Path | None = None
    model: CatalogEntry | None = None
    repository: str | None = None
    files: tuple[str, ...] = REQUIRED
    window_s: float = MAX_WINDOW_S


def data_path(name: str) -> Path:
    """Path of a file that ships with the program: in the installed package's data, else in the checkout.

    Raises ModelUnavailable if neither has it.
    """
    for folder in DATA_FOLDERS:
        if (folder / name).exists():
            return folder / name
    places = " nor ".join(str(folder) for folder in DATA_FOLDERS)
    raise ModelUnavailable(f"{name} is neither in {places}: the installation is incomplete")


def of(settings: Settings) -> Catalog:
    """The catalog for these settings; raises as `load`."""
    further = settings.extra_models_dirs
    return load(settings.catalog, (hub_cache(),) if further is None else further)


def load(own: Path | None = None, elsewhere: Sequence[Path] = ()) -> Catalog:
    """The built-in catalog, preceded by the operator's own (SOTTO_CATALOG), whose entries replace those of the
    same name and take over any other name they claim. Models are also looked for in `elsewhere`.

    Raises ModelUnavailable naming the file, the entry and the mistake.
    """
    first = read(own) if own else ()
    claimed = {name.casefold() for model in first for name in model.names}
    others = (model for model in read(data_path(CATALOG)) if model.name.casefold() not in claimed)
    return Catalog((*first, *(model.without(claimed) for model in others)), tuple(elsewhere))


def resolve(name: str, models_dir: Path, catalog: Catalog | None = None) -> ModelReference:
    """Resolve SOTTO_MODEL: a catalog name, else a folder of the models directory or any other existing directory,
    else a repository id.

    For the operator's values only, since it looks at directories; a client's `model` is passed to `Catalog.find`.
    Raises ModelUnavailable for anything else, and for a directory that holds no usable model.
    """
    catalog = catalog or load()
    try:
        if model := catalog.find(name):
            return _catalogd(model, models_dir, catalog)
        if folder := _directory(name, models_dir, catalog):
            check_folder(folder, catalog)
            if model := catalog.at(folder, models_dir):
                return _catalogd(model, models_dir, catalog)
            named = name if manifest.is_plain(name) else repository_of(folder) or folder.resolve().name
            return ModelReference(named, folder, folder)
        if REPOSITORY.fullmatch(name) and not Path(name).exists():
            return _repository(name, models_dir, catalog)
    except OSError as error:
        raise ModelUnavailable(f"{error.filename} can't be read: {error.strerror}") from error
    raise ModelUnavailable(_unknown(name, catalog))


def pullable(name: str, models_dir: Path, catalog: Catalog) -> ModelReference:
    """The model that a client may pull by that name: a catalog entry or a repository, never a path.

    Raises ModelNotFound for anything else, ModelUnavailable as `resolve`.
    """
    if model := catalog.find(name):
        return _catalogd(model, models_dir, catalog)
    if REPOSITORY.fullmatch(name):
        return _repository(name, models_dir, catalog)
    raise ModelNotFound(name, ": it is neither in the catalog nor a repository id (owner/name).")


def check_folder(folder: Path, catalog: Catalog | None = None) -> None:
    """Raise ModelUnavailable unless the folder holds a complete CTranslate2 conversion of a Whisper model."""
    if missing_files := missing(folder):
        names = [file.name for file in folder.iterdir()]
        known = [name for model in (catalog or load()).models for name in model.names]
        converted = f"{folder.resolve()}-ct2"
        if (kind := _architecture(folder, names)) and "Whisper" not in kind:
            raise ModelUnavailable(f"{folder} holds a model in transformers format that is not Whisper but {kind}")
        if hint := advice(names, str(folder), converted, known):
            raise ModelUnavailable(f"{folder} holds {hint}")
        raise ModelUnavailable(
            f"{folder} is not a usable model: it lacks {spelled(missing_files)}. A CTranslate2 conversion has "
            f"{spelled(REQUIRED)}, and preprocessor_config.json unless it has 80 mel bands."
        )
    with (folder / "model.bin").open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ModelUnavailable(f"{folder}/model.bin is only a Git LFS pointer: run `git lfs pull` there")
    spec, _ = read_shapes(folder / "model.bin")
    if spec not in ("", SPEC):  # "": loading it gives a better error message
        raise ModelUnavailable(f"{folder} holds a CTranslate2 model that is not Whisper but {spec}")


def missing(folder: Path, patterns: tuple[str, ...] = REQUIRED) -> list[str]:
    """The patterns that match no non-empty file of the folder; all of them if there is no folder."""
    there = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    names = [file.name for file in there if file.stat().st_size > 0]
    return [pattern for pattern in patterns if not any(_matches(name, pattern) for name in names)]


def _matches(name: str, pattern: str) -> bool:
    return name in VOCABULARIES if pattern == "vocabulary.*" else fnmatchcase(name, pattern)


def _directory(name: str, models_dir: Path, catalog: Catalog) -> Path | None:
    """The directory of that name: where models are looked for, or any existing path."""
    known = [folder / name for folder in (models_dir, *catalog.elsewhere)] if manifest.is_plain(name) else []
    anywhere = [Path(name).expanduser()] if name.strip() else []
    return next((folder for folder in (*known, *anywhere) if folder.is_dir()), None)


def _architecture(folder: Path, names: list[str]) -> str:
    """The architecture declared by a transformers checkpoint; empty if it declares none."""
    if not matching(names, TRANSFORMERS):
        return ""
    try:
        return " ".join(json.loads((folder / "config.json").read_bytes())["architectures"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _catalogd(model: CatalogEntry, models_dir: Path, catalog: Catalog) -> ModelReference:
    target = model.folder(models_dir)
    found = ModelReference(model.name, target, None, model, model.repository, model.files, model.window_s)
    if model.repository:
        return _located(found, catalog.places(model, models_dir))
    for name, facts in model.pinned.items():
        if manifest.size_of(target / name) != facts.size:
            raise ModelUnavailable(
                f"the bundled model '{model.name}' is damaged, install Sotto again: "
                f"{target / name} should be a file of {facts.size} bytes"
            )
    if not target.is_dir():
        raise ModelUnavailable(f"the catalog says that '{model.name}' is in {target}, which is not a directory")
    check_folder(target)
    return replace(found, folder=target)


def _repository(name: str, models_dir: Path, catalog: Catalog) -> ModelReference:
    found = ModelReference(name, models_dir / folder_name(name), repository=name)
    return _located(found, catalog.places_of(name, models_dir))


def _located(found: ModelReference, places: Iterable[Path]) -> ModelReference:
    """The same, with its folder: the first complete one of `places`; unchanged if none is.

    Raises for a folder of the models directory that can't be used. Those elsewhere belong to other programs: one
    that can't be used doesn't keep the model from being fetched.
    """
    for folder in places:
        try:
            if not missing(folder, found.files) and not manifest.read(folder).misfits(folder):
                check_folder(folder)
                return replace(found, folder=folder)
        except (OSError, ModelUnavailable):
            if folder.parent == found.target.parent:
                raise
    return found


def _unknown(name: str, catalog: Catalog) -> str:
    folder = Path(name).expanduser()
    if folder.is_file():
        hint = advice([folder.name], str(folder.parent), str(folder.with_suffix("")), [*_names(catalog)])
        return f"{folder} is {hint or 'a file; a model is the directory around it'}"
    if name.startswith(("/", "~", ".")):
        return f"there is no directory {folder}"
    known = {spelling.casefold(): spelling for spelling in _names(catalog)}
    close = [known[match] for match in difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.5)]
    have = ", ".join(model.name for model in catalog.models)
    hint = f"Did you mean {', '.join(close)}?" if close else f"The catalog has {have}."
    return (
        f"Unknown model '{name[:200]}': it is not in the catalog, an existing directory or a repository id "
        f"(owner/name). {hint}"
    )


def _names(catalog: Catalog) -> Iterator[str]:
    return (name for model in catalog.models for name in model.names)
