"""Import of a model from a folder on this machine, or on a share: copied into the models directory, or
linked."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.errors import ModelUnavailable, PullFailed
from server.models.bundle import checked_label
from server.models.catalog import check_folder
from server.models.catalog_file import OPTIONAL, Catalog
from server.models.folder_lock import check_disk_space, growing, locked
from server.models.installed import LICENSE_FILES, facts_of, files_in
from server.models.manifest import CHUNK_BYTES, FileInfo, Manifest, is_whole, read, size_of
from server.models.progress import Progress, Report, ignore


def import_folder(
    folder: Path,
    models_dir: Path,
    catalog: Catalog,
    *,
    label: str | None = None,
    link: bool = False,
    report: Report = ignore,
) -> Path:
    """Import the model in `folder` into the models directory; returns its folder there.

    Its name is `label`, else the catalog's name for the same weights, else that of its folder. `link` leaves the
    files where they are. Raises ModelUnavailable for a folder without a usable model, for a name that is taken or
    belongs to another model, and for disk errors.
    """
    check_folder(folder, catalog)
    names = files_in(folder)
    target_name = label or _known_name(folder, models_dir, catalog, report) or folder.resolve().name
    target = models_dir / target_name
    if target.exists() and target.resolve() == folder.resolve():
        return target
    is_known = catalog.meaning(target_name, models_dir) is not None
    files = facts_of(folder, names, f"reading {folder.name}", report) if is_known else {}
    checked_label(target_name, files, models_dir, catalog)
    with locked(target):
        if target.exists() or target.is_symlink():
            raise ModelUnavailable(
                f"{target} already exists: remove it first (sotto models remove {target_name}), or import under "
                "another name (--as NAME)"
            )
        if link:
            target.symlink_to(folder.resolve(), target_is_directory=True)
        else:
            _copy(folder, names, target, read(folder), report)
    return target


def copy_pinned(
    folder: Path,
    files: Sequence[str],
    pinned: Mapping[str, FileInfo],
    target: Path,
    origin: Manifest,
    *,
    report: Report = ignore,
) -> Path:
    """Fetch a model from a folder; every pinned file has to match its pin. Returns `target`.

    `files` are the patterns of the model's files; a complete model stays as it is.
    Raises PullFailed for a mismatch, InsufficientStorage, ModelLocked.
    """
    with locked(target):
        if not is_whole(target, files):  # another process may have fetched it while this one waited
            names = files_in(folder, (*files, *OPTIONAL, *LICENSE_FILES))
            _copy(folder, names, target, origin, report, pinned)
    return target


def _copy(
    folder: Path,
    names: list[str],
    target: Path,
    origin: Manifest,
    report: Report,
    pinned: Mapping[str, FileInfo] | None = None,
) -> None:
    """Copy all files, with the checksums of what was written, or nothing."""
    total = sum(size_of(folder / name) for name in names)
    check_disk_space(target.parent, total, target.name)
    files: dict[str, FileInfo] = {}
    recorded = read(folder).files
    with growing(target) as partial:
        for name in names:
            done = sum(facts.size for facts in files.values())
            report(Progress(f"copying {target.name}", done, total, name))
            files[name] = _copy_file(folder / name, partial / name)
            if (noted := recorded.get(name)) and noted.sha256 and noted != files[name]:
                raise PullFailed(f"{folder / name} is damaged: it does not match its checksum")
        for name, facts in (pinned or {}).items():
            if files.get(name) != facts:
                raise PullFailed(f"{folder / name} differs from the file in Sotto's catalog")
        Manifest(origin.repository, origin.revision, files, origin.source or str(folder)).write(partial)


def _copy_file(source: Path, target: Path) -> FileInfo:
    sha256, size = hashlib.sha256(), 0
    with source.open("rb") as file, target.open("xb") as out:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            size += out.write(chunk)
    return FileInfo(size, sha256.hexdigest())


def _known_name(folder: Path, models_dir: Path, catalog: Catalog, report: Report) -> str | None:
    """The folder name that a pull gives a model of the same weights; None if the catalog has none."""
    size = size_of(folder / "model.bin")
    for model in catalog.models:
        pin = model.pinned.get("model.bin")
        if model.path or pin is None or pin.size != size:
            continue
        found = facts_of(folder, [name for name in model.pinned if (folder / name).is_file()], folder.name, report)
        if found == dict(model.pinned):
            return model.folder(models_dir).name
    return None
