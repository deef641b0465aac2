"""Bundles: what an export writes an import takes, and nothing else."""

import errno
import io
import os
import shutil
import subprocess
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from server.errors import ModelUnavailable
from server.models import bundle, catalog, manifest
from server.models.catalog_file import Catalog
from server.models.installed import InstalledModel, locate, verify
from server.models.progress import Progress
from tests.support.model_folders import WHOLE, fill_disk, filled, pulled

LABEL = "me--small"
NAME = "me/small"


@pytest.fixture(scope="module")
def known() -> Catalog:
    return catalog.load()


@pytest.fixture
def model(tmp_path: Path, known: Catalog) -> InstalledModel:
    pulled(tmp_path / "here" / LABEL)
    return locate(NAME, tmp_path / "here", known)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The models directory of the other machine."""
    return tmp_path / "there"


@pytest.fixture
def content(model: InstalledModel) -> bytes:
    out = io.BytesIO()
    bundle.export(model, out)
    return out.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left_in(folder: Path) -> list[str]:
    """What a refused import has left, its lock aside."""
    return [path.name for path in folder.glob("*") if not path.name.endswith(".lock")] if folder.is_dir() else []


def remade(
    content: bytes, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]
) -> bytes:
    """The bundle, with each member as `change` gives it; without those for which it gives none."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old.getmembers():
            file = old.extractfile(member)
            assert file
            if made := change(member, file.read()):
                new.addfile(made[0], io.BytesIO(made[1]))
    return out.getvalue()


# What works


def test_bundle_carries_a_model_to_another_folder(
    content: bytes, model: InstalledModel, there: Path, known: Catalog
) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    assert folder == there / LABEL
    assert contents(folder) == contents(model.folder)
    assert left_in(there) == [LABEL]
    found = locate(NAME, there, known)
    assert found.manifest.revision == "1" * 40
    assert verify(found) == []


def test_bundle_is_a_plain_tar(content: bytes, model: InstalledModel, there: Path, known: Catalog) -> None:
    there.mkdir()
    (there / "bundle.tar").write_bytes(content)
    subprocess.run(["tar", "xf", "bundle.tar"], cwd=there, check=True)  # noqa: S607
    assert contents(there / LABEL) == contents(model.folder)
    assert verify(locate(NAME, there, known)) == []


def test_bundle_that_tar_made_anew_is_taken(
    content: bytes, model: InstalledModel, there: Path, known: Catalog
) -> None:
    names = [f"{LABEL}/{manifest.NAME}", *(f"{LABEL}/{name}" for name in WHOLE)]
    made = subprocess.run(
        ["tar", "cf", "-", "--format=ustar", *names],  # noqa: S607
        cwd=model.folder.parent,
        capture_output=True,
        check=True,
    )
    assert contents(bundle.import_(io.BytesIO(made.stdout), there, known)) == contents(model.folder)


def test_bundle_goes_through_a_pipe(model: InstalledModel, there: Path, known: Catalog) -> None:
    read, write = os.pipe()
    if not (exporter := os.fork()):  # in a process of its own: a pipe holds less than a bundle
        try:
            with open(write, "wb") as out:
                bundle.export(model, out)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb", buffering=0) as source:
        bundle.import_(source, there, known)
    assert os.waitpid(exporter, 0)[1] == 0
    assert verify(locate(NAME, there, known)) == []


def test_export_and_import_tell_how_far_they_are(model: InstalledModel, there: Path, known: Catalog) -> None:
    told: list[Progress] = []
    out = io.BytesIO()
    bundle.export(model, out, told.append)
    size = model.manifest.size
    assert told[-1] == Progress(f"writing {LABEL}", size, size)
    bundle.import_(io.BytesIO(out.getvalue()), there, known, report=told.append)
    assert told[-1] == Progress(f"reading {LABEL}", size, size)


def test_hand_placed_model_travels_with_its_licence_and_without_the_rest(
    tmp_path: Path, there: Path, known: Catalog
) -> None:
    folder = filled(tmp_path / "my model", *WHOLE, "LICENSE", "README.md", "pytorch_model.bin")
    out = io.BytesIO()
    bundle.export(locate(str(folder), there, known), out)
    imported = bundle.import_(io.BytesIO(out.getvalue()), there, known)
    assert imported.name == "my-model"
    assert set(contents(imported)) == {*WHOLE, "LICENSE", "README.md", manifest.NAME}
    assert verify(locate("my-model", there, known)) == []


def test_bundled_model_needs_another_name(there: Path, known: Catalog) -> None:
    out = io.BytesIO()
    content = bundle.export(locate("demo", there, known), out)
    assert {"LICENSE", "model.bin"} <= set(content.files)
    with pytest.raises(ModelUnavailable, match=r"'demo' is the name of another model here: .*--as NAME"):
        bundle.import_(io.BytesIO(out.getvalue()), there, known)
    assert bundle.import_(io.BytesIO(out.getvalue()), there, known, label="trial") == there / "trial"
    assert verify(locate("trial", there, known)) == []


def test_what_is_there_already_stays(content: bytes, there: Path, known: Catalog) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    before = (folder / "model.bin").stat().st_ino
    assert bundle.import_(io.BytesIO(content), there, known) == folder
    assert (folder / "model.bin").stat().st_ino == before


def test_another_model_of_that_name_stays(content: bytes, there: Path, known: Catalog) -> None:
    others = contents(pulled(there / LABEL, "me/other"))
    with pytest.raises(ModelUnavailable, match="already exists and is different: remove it first"):
        bundle.import_(io.BytesIO(content), there, known)
    assert contents(there / LABEL) == others


def test_files_that_a_person_placed_stay(content: bytes, there: Path, known: Catalog) -> None:
    folder = filled(there / LABEL, "model.bin")
    with pytest.raises(ModelUnavailable, match="already exists and is different: remove it first"):
        bundle.import_(io.BytesIO(content), there, known)
    assert list(contents(folder)) == ["model.bin"]


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(b"short"), Path.unlink])
def test_damaged_model_is_repaired(
    content: bytes, model: InstalledModel, there: Path, known: Catalog, damage: Callable[[Path], object]
) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    damage(folder / "model.bin")
    assert bundle.import_(io.BytesIO(content), there, known) == folder
    assert contents(folder) == contents(model.folder)
    assert left_in(there) == [LABEL]


def test_damaged_model_stays_if_the_bundle_is_damaged_too(content: bytes, there: Path, known: Catalog) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    (folder / "model.bin").write_bytes(b"short")
    before = contents(folder)
    with pytest.raises(ModelUnavailable, match="it is truncated"):
        bundle.import_(io.BytesIO(content[: len(content) // 2]), there, known)
    assert contents(folder) == before


# What is not written


def test_damaged_model_is_not_exported(model: InstalledModel) -> None:
    path = model.folder / "model.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelUnavailable, match=r"model\.bin is damaged: it does not match its checksum"):
        bundle.export(model, io.BytesIO())


def test_incomplete_model_is_not_exported(tmp_path: Path, known: Catalog) -> None:
    folder = pulled(tmp_path / "Systran--faster-whisper-tiny")
    (folder / "model.bin").unlink()
    with pytest.raises(ModelUnavailable, match=r"tiny can't be exported: incomplete: lacks model\.bin"):
        bundle.export(locate("tiny", tmp_path, known), io.BytesIO())


# What is not taken: the model must not appear, nor anything else


def refused(content: bytes | BinaryIO, there: Path, known: Catalog, match: str, label: str | None = None) -> None:
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    with pytest.raises(ModelUnavailable, match=match):
        bundle.import_(source, there, known, label=label)
    assert left_in(there) == []


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"PK\x03\x04" * 1000, b"x" * 511, os.urandom(4096)])
def test_other_files_are_no_bundles(content: bytes, there: Path, known: Catalog) -> None:
    refused(content, there, known, "not a file of `sotto models export`")


def test_flipped_bit_is_found(content: bytes, there: Path, known: Catalog) -> None:
    at = content.index(b"me/small model.bin" * 10) + 5000
    refused(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], there, known, r"model\.bin .* is damaged")


@pytest.mark.parametrize("part", [0.001, 0.02, 0.3, 0.9])
def test_truncated_bundle_leaves_nothing(content: bytes, part: float, there: Path, known: Catalog) -> None:
    refused(content[: int(len(content) * part)], there, known, "it is truncated")
    refused(content[: -2 * bundle.BLOCK], there, known, "it is truncated")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "model.bin",
        f"../{LABEL}/model.bin",
        f"{LABEL}/../../evil",
        f"{LABEL}/sub/model.bin",
    ],
)
def test_path_that_leaves_the_folder_is_refused(name: str, content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("model.bin"):
            member.name = name
        return member, body

    refused(remade(content, rename), there, known, rf"it has .* instead of {LABEL}/model\.bin with")


@pytest.mark.parametrize("name", ["../evil", "..", ".", "/evil", ".hidden", "a b"])
def test_folder_that_is_none_is_refused(name: str, content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        member.name = f"{name}/{member.name.split('/')[1]}"
        return member, body

    refused(remade(content, rename), there, known, "does not begin with source|is not a valid folder name")
    refused(content, there, known, "is not a valid folder name", label=name)
    assert not (there.parent / "evil").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ".bashrc"])
def test_record_that_names_paths_is_refused(name: str, content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith(manifest.NAME):
            body = body.replace(b'"model.bin"', f'"{name}"'.encode())
            member.size = len(body)
        elif member.name.endswith("model.bin"):
            member.name = f"{LABEL}/{name}"
        return member, body

    refused(remade(content, rename), there, known, "not a file of a model")


def test_record_that_names_itself_is_refused(content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith(manifest.NAME):
            body = body.replace(b'"tokenizer.json"', f'"{manifest.NAME}"'.encode())
            member.size = len(body)
        return member, body

    refused(remade(content, rename), there, known, "its manifest lists itself")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_links_devices_and_folders_are_refused(kind: bytes, content: bytes, there: Path, known: Catalog) -> None:
    def turn(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("model.bin"):
            member.type, member.linkname = kind, "/etc/passwd"
        return member, body

    refused(remade(content, turn), there, known, r"it has .* instead of .*model\.bin with")


def test_more_and_fewer_files_than_recorded_are_refused(content: bytes, there: Path, known: Catalog) -> None:
    extra = tarfile.TarInfo(f"{LABEL}/evil").tobuf(tarfile.GNU_FORMAT)
    more = content.removesuffix(bundle.END) + extra + bundle.END
    refused(more, there, known, "data after the last file of its manifest")
    fewer = remade(content, lambda member, body: None if member.name.endswith("model.bin") else (member, body))
    refused(fewer, there, known, r"instead of .*model\.bin with")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"size": 18000', b'"size": 18001', r"instead of .*model\.bin with 18001 bytes"),
        (b'"size": 18000', b'"size": 99000000000000000', "needs 99,000,000,.* has .* free"),
        (b'"size": 18000', b'"size": -1', "has no size"),
        (b'"sha256": "', b'"sha256": null, "x": "', "not a manifest of a model"),
        (b'"model.bin"', b'"other.bin"', "instead of .*other.bin with"),
        (b'"files"', b'"fails"', "not a manifest of a model"),
    ],
)
def test_record_that_lies_is_refused(
    old: bytes, new: bytes, message: str, content: bytes, there: Path, known: Catalog
) -> None:
    def lie(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith(manifest.NAME):
            assert old in body
            body = body.replace(old, new)
            member.size = len(body)
        return member, body

    refused(remade(content, lie), there, known, message)


def test_record_without_bounds_is_not_read(there: Path, known: Catalog) -> None:
    header = tarfile.TarInfo(f"{LABEL}/{manifest.NAME}")
    header.size = 1 << 50
    refused(
        header.tobuf(tarfile.GNU_FORMAT) + b"{" * 4096, there, known, "its source.json has 1125899906842624 bytes"
    )


def test_extended_headers_are_refused_unread(content: bytes, there: Path, known: Catalog) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    refused(header.tobuf(tarfile.GNU_FORMAT) + content, there, known, "does not begin with source")


def test_no_model_in_a_bundle_is_refused(tmp_path: Path, there: Path, known: Catalog) -> None:
    folder = pulled(tmp_path / "half")
    noted = manifest.read(folder)
    out = io.BytesIO()
    some = manifest.Manifest(noted.repository, noted.revision, {"model.bin": noted.files["model.bin"]})
    some.write(folder)
    model = InstalledModel(("half",), folder, 0, some)
    bundle.export(model, out)
    refused(out.getvalue(), there, known, "it lacks config")


# Full disks and interruptions


class Interrupted(io.RawIOBase):
    """A bundle whose reader is interrupted half way."""

    def __init__(self, content: bytes, error: BaseException) -> None:
        self._rest = io.BytesIO(content[: len(content) // 2])
        self._error = error

    def read(self, size: int = -1) -> bytes:
        if not (piece := self._rest.read(size)):
            raise self._error
        return piece


def test_ctrl_c_leaves_nothing(content: bytes, there: Path, known: Catalog) -> None:
    with pytest.raises(KeyboardInterrupt):
        bundle.import_(Interrupted(content, KeyboardInterrupt()), there, known)  # type: ignore[arg-type]
    assert left_in(there) == []
    assert bundle.import_(io.BytesIO(content), there, known).exists()


def test_unreadable_stick_is_not_blamed_on_the_models_directory(
    content: bytes, there: Path, known: Catalog
) -> None:
    stick = Interrupted(content, OSError(errno.EIO, "Input/output error"))
    refused(stick, there, known, "reading failed: Input/output error")  # type: ignore[arg-type]


def test_what_a_killed_import_left_is_cleared(content: bytes, there: Path, known: Catalog) -> None:
    filled(there / f".{LABEL}.importing", "model.bin", "junk")
    bundle.import_(io.BytesIO(content), there, known)
    assert left_in(there) == [LABEL]
    assert "junk" not in contents(there / LABEL)


def test_room_is_looked_for_first(
    content: bytes, there: Path, known: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    refused(content, there, known, r"me--small needs 67\.\d MB more in .*there, which has 0\.0 MB free")


def test_disk_that_fills_on_the_way_is_told_and_cleared(
    content: bytes, there: Path, known: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, 10_000)
    refused(content, there, known, r"there \(SOTTO_MODELS_DIR\) can't be written: .*No space left on device")
    monkeypatch.undo()
    assert bundle.import_(io.BytesIO(content), there, known).exists()
