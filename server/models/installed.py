"""The models on this machine: list them, verify their files, remove them.

Looks at the models directory, and at the other places that the catalog has. Loads nothing, contacts no hub.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from server.errors import ModelUnavailable, PermissionDenied
from server.models import manifest
from server.models.catalog import BUNDLED, check_folder, missing, resolve
from server.models.catalog_file import OPTIONAL, REQUIRED, Catalog, CatalogEntry
from server.models.dimensions import Dimensions, read_dimensions
from server.models.folder_lock import PARTIAL, locked
from server.models.manifest import FileInfo, Manifest
from server.models.progress import Progress, Report, ignore
from server.models.search_path import model_folders, repository_of
from server.settings import Settings
from server.system.sizes import in_words

# The most accurate multilingual model first; turbo before large-v3, since it needs a sixth of the time.
PREFERRED = ("large-v3-turbo", "large-v3", "large-v2", "medium", "small", "base", "tiny")
LICENSE_FILES = ("LICENSE*", "NOTICE*", "README*")  # go along: licences ask for it
# The hidden folders of a model that killed processes leave, behind `.<its folder's name>`.
LEFTOVERS = (".wheels", ".importing", ".removed", f"{PARTIAL}.removed")


@dataclass(frozen=True)
class InstalledModel:
    """A model on this machine. The first of its `names` is the value for SOTTO_MODEL.

    `manifest` has its checksums, if there are any; `model` is its catalog entry, if it has one. `problem`
    says why it can't be used. A model that isn't `removable` is outside the models directory, or bundled.
    """

    names: tuple[str, ...]
    folder: Path
    size: int
    manifest: Manifest
    model: CatalogEntry | None = None
    removable: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def is_bundled(self) -> bool:
        return self.model is not None and self.model.is_bundled

    @property
    def is_own(self) -> bool:
        """True if it was installed for Sotto, and not by another program for itself."""
        return self.removable or (self.model is not None and self.model.path is not None)

    @property
    def languages(self) -> str | None:
        return self.model.languages if self.model else None

    @property
    def dimensions(self) -> Dimensions | None:
        """The dimensions according to its own file; for an interrupted pull, according to the catalog."""
        return read_dimensions(self.folder / "model.bin") or (self.model.dimensions if self.model else None)

    @property
    def has_sums(self) -> bool:
        return bool(self.manifest.files) and all(facts.sha256 for facts in self.manifest.files.values())


def installed(models_dir: Path, catalog: Catalog) -> list[InstalledModel]:
    """The models on this machine: those at a path of the catalog, those of the models directory, those elsewhere.

    A name means the first usable model that has it; another one of that name is listed by its path.
    """
    with_path = [model.folder(models_dir) for model in catalog.models if model.path]
    further = [folder for each in catalog.elsewhere for folder in model_folders(each) if _is_usable(folder)]
    folders: dict[Path, Path] = {}
    for folder in (*with_path, *_folders(models_dir), *further):
        folders.setdefault(folder.resolve(), folder)
    found = [describe(folder, models_dir, catalog) for folder in folders.values()]
    owners: dict[str, InstalledModel] = {}
    for each in sorted(found, key=lambda each: bool(each.problem)):
        owners.setdefault(each.name, each)
    return [each if owners[each.name] is each else replace(each, names=(str(each.folder),)) for each in found]


def default_name(settings: Settings, catalog: Catalog) -> str:
    """The model that SOTTO_MODEL names, or the best one installed."""
    return settings.model or best(settings.models_dir, catalog)


def best(models_dir: Path, catalog: Catalog) -> str:
    """The model that is served if none is configured: from the models directory the first of PREFERRED, else
    the largest one; if it is empty, the same from elsewhere; else the bundled one."""
    usable = [each for each in installed(models_dir, catalog) if not (each.problem or each.is_bundled)]
    best = min(usable, key=lambda each: (not each.is_own, _rank(each), -each.size), default=None)
    return _resolvable(best, models_dir, catalog) if best else BUNDLED


def _resolvable(model: InstalledModel, models_dir: Path, catalog: Catalog) -> str:
    """The model's name, or its path where the name is none that SOTTO_MODEL takes, or means another folder."""
    try:
        folder = resolve(model.name, models_dir, catalog).folder
    except ModelUnavailable:
        folder = None
    return model.name if folder and folder.resolve() == model.folder.resolve() else str(model.folder)


def locate(name: str, models_dir: Path, catalog: Catalog) -> InstalledModel:
    """The model of that name, or in that directory; raises ModelUnavailable if it isn't on this machine."""
    wanted = name.strip().casefold()
    for each in installed(models_dir, catalog):
        if wanted in (known.casefold() for known in each.names):
            return each
    found = resolve(name, models_dir, catalog)
    if found.folder is None:
        raise ModelUnavailable(f"{name} is not on this machine; to get it: sotto models pull {name}")
    return describe(found.folder, models_dir, catalog)


def describe(folder: Path, models_dir: Path, catalog: Catalog) -> InstalledModel:
    """Describe the model in that folder, which may not exist."""
    whole = folder.with_name(folder.name.removesuffix(PARTIAL))
    model = catalog.at(whole, models_dir)
    bundled = model is not None and model.is_bundled
    return InstalledModel(
        names=tuple(model.names) if model else _names_of(whole, models_dir, catalog),
        folder=folder,
        size=_size(folder),
        manifest=Manifest(files=model.pinned) if model and bundled else manifest.read(folder),
        model=model,
        removable=folder.parent == models_dir and not bundled,
        problem=_problem(folder, model),
    )


def installed_in(folder: Path, models_dir: Path, catalog: Catalog) -> InstalledModel:
    """The model in that folder, as the models directory lists it, following links in the path."""
    place = folder.resolve()
    found = (each for each in installed(models_dir, catalog) if each.folder.resolve() == place)
    return next(found, None) or describe(folder, models_dir, catalog)


def check_removable(model: InstalledModel) -> None:
    """Raise PermissionDenied for a model outside the models directory, and for the bundled one."""
    if not model.removable:
        reason = "comes with Sotto" if model.model and model.model.is_bundled else "is not in SOTTO_MODELS_DIR"
        raise PermissionDenied(f"{model.name} ({model.folder}) {reason}, so Sotto does not remove it")


def remove(model: InstalledModel) -> None:
    """Take a model out of the models directory, and what interrupted pulls, imports and removals of it have left.

    Of a link, only the link is removed. Raises as `check_removable`, ModelLocked while another process writes it,
    ModelUnavailable for disk errors.
    """
    check_removable(model)
    whole = model.folder.with_name(model.folder.name.removesuffix(PARTIAL))
    with locked(whole, wait=False):
        for folder in (whole, whole.with_name(whole.name + PARTIAL)):
            _discard(folder)
        for leftover in (whole.with_name(f".{whole.name}{suffix}") for suffix in LEFTOVERS):
            if leftover.is_dir():
                shutil.rmtree(leftover)


def verify(model: InstalledModel, report: Report = ignore) -> list[str]:
    """The problems of the model's files, by their checksums; raises ModelUnavailable if it has none."""
    if not model.has_sums:
        raise ModelUnavailable(f"{model.name} has no checksums to compare with: its files were placed by hand")
    there = {name: facts for name, facts in model.manifest.files.items() if (model.folder / name).is_file()}
    found = facts_of(model.folder, there, model.name, report)
    lacking = [f"{name} is missing" for name in model.manifest.files if name not in there]
    return lacking + [f"{name} is damaged" for name, facts in there.items() if found[name] != facts]


def differing(model: InstalledModel, report: Report = ignore) -> list[str]:
    """The files that differ from those pinned in the catalog: another revision or conversion, or damage."""
    pinned = model.model.pinned if model.model else {}
    there = [name for name in pinned if (model.folder / name).is_file()]
    found = facts_of(model.folder, there, model.name, report)
    return [name for name, facts in pinned.items() if found.get(name) != facts]


def record_sums(model: InstalledModel, report: Report = ignore) -> Manifest:
    """Record the checksums of a manually installed model, as its files are now."""
    if model.has_sums:
        path = model.folder / manifest.NAME
        raise ModelUnavailable(f"{model.name} already has checksums; to record new ones, remove {path} first")
    check_folder(model.folder)
    made = Manifest(files=facts_of(model.folder, files_in(model.folder), model.name, report))
    made.write(model.folder)
    return made


def files_in(folder: Path, patterns: Iterable[str] = (*REQUIRED, *OPTIONAL, *LICENSE_FILES)) -> list[str]:
    """The names of the files that belong to a model, by pattern."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and manifest.is_plain(file.name))
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def facts_of(folder: Path, names: Iterable[str], what: str, report: Report = ignore) -> dict[str, FileInfo]:
    """Size and sha256 of each file, by name; `report` is called with the progress, labeled `what`."""
    sizes = {name: manifest.size_of(folder / name) for name in names}
    total, done = sum(sizes.values()), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        report(Progress(what, done, total))

    return {name: FileInfo(size, manifest.sha256_of(folder / name, count)) for name, size in sizes.items()}


def _is_usable(folder: Path) -> bool:
    """True if a folder that other programs fill holds a Whisper model; their other models are ignored."""
    try:
        check_folder(folder)
    except (ModelUnavailable, OSError):
        return False
    return True


def _rank(each: InstalledModel) -> int:
    name = each.model.name if each.model else ""
    return PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)


def _folders(models_dir: Path) -> Iterator[Path]:
    """The folders that hold a model, or an incomplete one."""
    if not models_dir.is_dir():
        return
    yield from (folder for folder in sorted(models_dir.iterdir()) if _may_hold_model(folder))


def _may_hold_model(folder: Path) -> bool:
    """By its files' names; False for one that may not be read, such as the `lost+found` of a disk."""
    whole = folder.with_name(folder.name.removesuffix(PARTIAL))
    try:
        if folder.name.startswith(".") or not folder.is_dir() or (folder != whole and whole.exists()):
            return False
        return folder != whole or any((folder / name).exists() for name in ("model.bin", "config.json"))
    except OSError:
        return False


def _names_of(folder: Path, models_dir: Path, catalog: Catalog) -> tuple[str, ...]:
    """The names of a folder that is not in the catalog; its path, if the name means another model."""
    if repository := repository_of(folder):
        return (repository,)
    if folder.parent not in (models_dir, *catalog.elsewhere) or catalog.find(folder.name):
        return (str(folder),)
    owner, separator, name = folder.name.partition("--")
    return (f"{owner}/{name}", folder.name) if separator and owner and name else (folder.name,)


def _problem(folder: Path, model: CatalogEntry | None) -> str:
    """The reason why the model can't be used; empty if file names and sizes show none."""
    noted = manifest.read(folder)
    if folder.name.endswith(PARTIAL):
        done = sum(manifest.size_of(folder / name) for name in noted.files)
        return f"pull interrupted at {in_words(done, 'MB')} of {in_words(noted.size, 'MB')}"
    try:
        if model and folder.is_dir() and (lacking := missing(folder, model.files)):
            return f"incomplete: lacks {', '.join(lacking)}"
        check_folder(folder)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except ModelUnavailable as error:
        return error.message
    return f"damaged: {', '.join(misfits)}" if (misfits := noted.misfits(folder)) else ""


def _size(folder: Path) -> int:
    try:
        return sum(manifest.size_of(file) for file in folder.iterdir())
    except OSError:  # missing, or not readable for us
        return 0


def _discard(folder: Path) -> None:
    """Delete in two steps, so that an interruption leaves no partial model under the model's name."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        aside = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside)
