"""A model as one file, for machines without network: an uncompressed tar of its folder.

The manifest (`source.json`) comes first and lists every file with size and sha256; then these files, in this order,
and nothing else. So a bundle can be verified while it is read, even from a pipe, and `tar xf` in the models
directory does the same as an import, without verification. Headers are parsed here, not by tarfile's reader, which
would follow extensions of any size; bundles have none.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from server.errors import ModelUnavailable
from server.models import manifest
from server.models.catalog import check_folder
from server.models.catalog_file import Catalog
from server.models.folder_lock import check_disk_space, growing, locked
from server.models.installed import LICENSE_FILES, InstalledModel, facts_of, files_in
from server.models.manifest import CHUNK_BYTES, FileInfo, Manifest
from server.models.progress import Progress, Report, ignore

BLOCK = tarfile.BLOCKSIZE
MAX_MANIFEST_BYTES = 1 << 20
END = bytes(2 * BLOCK)


def export(model: InstalledModel, out: BinaryIO, report: Report = ignore) -> Manifest:
    """Write the model's bundle to `out`; returns its manifest.

    Raises ModelUnavailable if a file doesn't match its checksum: the output so far is then not a bundle.
    """
    content = _content(model, report)
    label = _label(model)
    content_bytes = content.dump()
    out.write(_header(f"{label}/{manifest.NAME}", len(content_bytes)) + _padded(content_bytes))
    done = 0
    for name, facts in content.files.items():
        out.write(_header(f"{label}/{name}", facts.size))
        with (model.folder / name).open("rb") as file:
            for chunk in _checked(file, facts, f"{model.folder / name} is damaged: it does not match its checksum"):
                out.write(chunk)
                done += len(chunk)
                report(Progress(f"writing {label}", done, content.size))
        out.write(bytes(-facts.size % BLOCK))
    out.write(END)
    return content


def import_(
    source: BinaryIO, models_dir: Path, catalog: Catalog, *, label: str | None = None, report: Report = ignore
) -> Path:
    """Import a bundle into the models directory, whole and verified or not at all; returns the model's folder.

    `label` is its folder's name, instead of the one it had. What is there already with the same checksums stays;
    a model that lacks files, or has them cut short, is replaced.
    Raises ModelUnavailable for anything that `export` would not have written, where the name is taken or that of
    another model, or the disk has no room.
    """
    origin, content = _read_manifest(source)
    folder = models_dir / checked_label(label or origin, content.files, models_dir, catalog)
    with locked(folder):
        if _is_there(folder, content):
            return folder
        check_disk_space(models_dir, content.size, folder.name)
        with growing(folder) as partial:
            done = 0
            for name, facts in content.files.items():
                _expect(source, f"{origin}/{name}", facts.size)
                with (partial / name).open("xb") as out:
                    for chunk in _checked(source, facts, f"{name} in the exported file is damaged"):
                        out.write(chunk)
                        done += len(chunk)
                        report(Progress(f"reading {folder.name}", done, content.size))
                _read(source, -facts.size % BLOCK)
            if any(_read(source, BLOCK)):
                raise _invalid_bundle("it has data after the last file of its manifest")
            check_folder(partial, catalog)
            content.write(partial)
    return folder


def _content(model: InstalledModel, report: Report) -> Manifest:
    """The manifest to export: the model's own, with checksums added for files that have none."""
    if model.problem:
        raise ModelUnavailable(f"{model.name} can't be exported: {model.problem}")
    noted = model.manifest.files if model.has_sums else {}
    further = files_in(model.folder, LICENSE_FILES) if noted else files_in(model.folder)
    made = facts_of(
        model.folder, [name for name in further if name not in noted], f"checksumming {model.name}", report
    )
    return Manifest(model.manifest.repository, model.manifest.revision, {**noted, **made})


def _label(model: InstalledModel) -> str:
    """The name of the folder in the bundle: the one it gets in any models directory."""
    name = model.model.name if model.model and model.model.path else model.folder.resolve().name
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", name).lstrip("-.+")


def checked_label(label: str, files: Mapping[str, FileInfo], models_dir: Path, catalog: Catalog) -> str:
    """The name, if a folder with these files may have it in the models directory; else raises ModelUnavailable."""
    if not manifest.is_plain(label):
        raise ModelUnavailable(
            f"'{label[:100]}' is not a valid folder name: use letters, digits, '_', '.', '+' and '-'"
        )
    entry = catalog.meaning(label, models_dir)
    if entry and entry.path:
        raise ModelUnavailable(
            f"'{label}' is the name of another model here: import this one under another name (--as NAME)"
        )
    if entry and (others := [name for name, facts in entry.pinned.items() if files.get(name) != facts]):
        raise ModelUnavailable(
            f"files differ from '{entry.name}' in the catalog ({', '.join(others)}): import this model under "
            "another name (--as NAME)"
        )
    return label


def _is_there(folder: Path, content: Manifest) -> bool:
    """Whether the folder holds the bundle's files already; a damaged model of Sotto's is to be replaced.

    Raises ModelUnavailable for anything else that has the name.
    """
    if not folder.exists():
        return False
    there = manifest.read(folder)
    if there.misfits(folder):
        return False
    if there.files != content.files:
        raise ModelUnavailable(
            f"{folder} already exists and is different: remove it first (sotto models remove {folder.name}), "
            "or import under another name (--as NAME)"
        )
    return True


def _read_manifest(source: BinaryIO) -> tuple[str, Manifest]:
    """The folder's name and manifest, with which every bundle begins."""
    header = _next(source)
    path = PurePosixPath(header.name)
    if not header.isreg() or len(path.parts) != 2 or path.name != manifest.NAME:
        raise _invalid_bundle(f"it does not begin with {manifest.NAME}")
    if not 0 < header.size <= MAX_MANIFEST_BYTES:
        raise _invalid_bundle(f"its {manifest.NAME} has {header.size} bytes")
    try:
        content = manifest.parse(_read(source, header.size))
    except ValueError as error:
        raise _invalid_bundle(str(error)) from error
    if manifest.NAME in content.files or not all(facts.sha256 for facts in content.files.values()):
        raise _invalid_bundle("its manifest lists itself, or a file without a checksum")
    _read(source, -header.size % BLOCK)
    return path.parts[0], content


def _expect(source: BinaryIO, name: str, size: int) -> None:
    """Read a header, which must be that of this file: links, devices and other paths are rejected."""
    header = _next(source)
    if header.name != name or not header.isreg() or header.size != size:
        raise _invalid_bundle(f"it has {header.name[:200]!r} instead of {name} with {size} bytes")


def _next(source: BinaryIO) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(_read(source, BLOCK), "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _invalid_bundle(f"invalid file header: {error}") from error


def _checked(file: BinaryIO, facts: FileInfo, message: str) -> Iterator[bytes]:
    """The file's bytes, exactly as many as recorded; raises ModelUnavailable at the end if the checksum differs."""
    sha256, left = hashlib.sha256(), facts.size
    while left:
        chunk = _read(file, min(left, CHUNK_BYTES))
        left -= len(chunk)
        sha256.update(chunk)
        yield chunk
    if sha256.hexdigest() != facts.sha256:
        raise ModelUnavailable(message)


def _read(source: BinaryIO, size: int) -> bytes:
    """Read exactly `size` bytes; a pipe returns them in pieces."""
    pieces = []
    while size:
        try:
            piece = source.read(size)
        except OSError as error:
            raise ModelUnavailable(f"reading failed: {error.strerror}") from error
        if not piece:
            raise _invalid_bundle("it is truncated")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    block = header.tobuf(tarfile.GNU_FORMAT)
    if len(block) != BLOCK:
        raise ModelUnavailable(f"the name {name} is too long for an exported file")
    return block


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def _invalid_bundle(reason: str) -> ModelUnavailable:
    return ModelUnavailable(f"not a file of `sotto models export`, or a damaged one: {reason}")
