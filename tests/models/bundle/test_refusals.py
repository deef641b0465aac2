"""Imports of anything but an intact bundle: the model must not appear, nor anything else."""

import errno
import io
import os
import shutil
import tarfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from server.errors import ModelUnavailable
from server.models import bundle, manifest
from server.models.catalog_file import Catalog
from server.models.installed import InstalledModel
from tests.models.bundle.conftest import LABEL, Interrupted, left_in
from tests.support.model_folders import fill_disk, pulled


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


def refused(content: bytes | BinaryIO, there: Path, known: Catalog, match: str, label: str | None = None) -> None:
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    with pytest.raises(ModelUnavailable, match=match):
        bundle.import_(source, there, known, label=label)
    assert left_in(there) == []


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"PK\x03\x04" * 1000, b"x" * 511, os.urandom(4096)])
def test_other_files_are_no_bundles(content: bytes, there: Path, known: Catalog) -> None:
    refused(content, there, known, "not a file of `sotto models export`")


def test_a_flipped_bit_is_found(content: bytes, there: Path, known: Catalog) -> None:
    at = content.index(b"me/small model.bin" * 10) + 5000
    refused(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], there, known, r"model\.bin .* is damaged")


@pytest.mark.parametrize("part", [0.001, 0.02, 0.3, 0.9])
def test_a_truncated_bundle_leaves_nothing(content: bytes, part: float, there: Path, known: Catalog) -> None:
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
def test_a_path_that_leaves_the_folder_is_refused(name: str, content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith("model.bin"):
            member.name = name
        return member, body

    refused(remade(content, rename), there, known, rf"it has .* instead of {LABEL}/model\.bin with")


@pytest.mark.parametrize("name", ["../evil", "..", ".", "/evil", ".hidden", "a b"])
def test_an_invalid_folder_name_is_refused(name: str, content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        member.name = f"{name}/{member.name.split('/')[1]}"
        return member, body

    refused(remade(content, rename), there, known, "does not begin with source|is not a valid folder name")
    refused(content, there, known, "is not a valid folder name", label=name)
    assert not (there.parent / "evil").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ".bashrc"])
def test_a_manifest_that_names_paths_is_refused(name: str, content: bytes, there: Path, known: Catalog) -> None:
    def rename(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith(manifest.NAME):
            body = body.replace(b'"model.bin"', f'"{name}"'.encode())
            member.size = len(body)
        elif member.name.endswith("model.bin"):
            member.name = f"{LABEL}/{name}"
        return member, body

    refused(remade(content, rename), there, known, "not a file of a model")


def test_a_manifest_that_names_itself_is_refused(content: bytes, there: Path, known: Catalog) -> None:
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
def test_a_manifest_with_wrong_facts_is_refused(
    old: bytes, new: bytes, message: str, content: bytes, there: Path, known: Catalog
) -> None:
    def lie(member: tarfile.TarInfo, body: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name.endswith(manifest.NAME):
            assert old in body
            body = body.replace(old, new)
            member.size = len(body)
        return member, body

    refused(remade(content, lie), there, known, message)


def test_a_manifest_of_unbounded_size_is_not_read(there: Path, known: Catalog) -> None:
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


def test_an_unreadable_source_is_not_blamed_on_the_models_directory(
    content: bytes, there: Path, known: Catalog
) -> None:
    stick = Interrupted(content, OSError(errno.EIO, "Input/output error"))
    refused(stick, there, known, "reading failed: Input/output error")  # type: ignore[arg-type]


def test_disk_space_is_checked_first(
    content: bytes, there: Path, known: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    refused(content, there, known, r"me--small needs 67\.\d MB more in .*there, which has 0\.0 MB free")


def test_a_disk_that_fills_during_an_import_is_reported_and_cleaned_up(
    content: bytes, there: Path, known: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, 10_000)
    refused(content, there, known, r"there \(SOTTO_MODELS_DIR\) can't be written: .*No space left on device")
    monkeypatch.undo()
    assert bundle.import_(io.BytesIO(content), there, known).exists()
