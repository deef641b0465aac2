"""Bundles: what an export writes, an import takes."""

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from server.errors import ModelUnavailable
from server.models import bundle, manifest
from server.models.catalog_file import Catalog
from server.models.installed import InstalledModel, locate, verify
from server.models.progress import Progress
from tests.models.bundle.conftest import LABEL, NAME, Interrupted, contents, left_in
from tests.support.model_folders import WHOLE, filled, pulled


def test_a_bundle_carries_a_model_to_another_folder(
    content: bytes, model: InstalledModel, there: Path, known: Catalog
) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    assert folder == there / LABEL
    assert contents(folder) == contents(model.folder)
    assert left_in(there) == [LABEL]
    found = locate(NAME, there, known)
    assert found.manifest.revision == "1" * 40
    assert verify(found) == []


def test_a_bundle_is_a_plain_tar(content: bytes, model: InstalledModel, there: Path, known: Catalog) -> None:
    there.mkdir()
    (there / "bundle.tar").write_bytes(content)
    subprocess.run(["tar", "xf", "bundle.tar"], cwd=there, check=True)  # noqa: S607
    assert contents(there / LABEL) == contents(model.folder)
    assert verify(locate(NAME, there, known)) == []


def test_a_bundle_repacked_by_tar_is_imported(
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


def test_a_bundle_goes_through_a_pipe(model: InstalledModel, there: Path, known: Catalog) -> None:
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


def test_export_and_import_report_progress(model: InstalledModel, there: Path, known: Catalog) -> None:
    reports: list[Progress] = []
    out = io.BytesIO()
    bundle.export(model, out, reports.append)
    size = model.manifest.size
    assert reports[-1] == Progress(f"writing {LABEL}", size, size)
    bundle.import_(io.BytesIO(out.getvalue()), there, known, report=reports.append)
    assert reports[-1] == Progress(f"reading {LABEL}", size, size)


def test_a_hand_placed_model_is_exported_with_its_license_only(tmp_path: Path, there: Path, known: Catalog) -> None:
    folder = filled(tmp_path / "my model", *WHOLE, "LICENSE", "README.md", "pytorch_model.bin")
    out = io.BytesIO()
    bundle.export(locate(str(folder), there, known), out)
    imported = bundle.import_(io.BytesIO(out.getvalue()), there, known)
    assert imported.name == "my-model"
    assert set(contents(imported)) == {*WHOLE, "LICENSE", "README.md", manifest.NAME}
    assert verify(locate("my-model", there, known)) == []


def test_the_bundled_model_needs_another_name(there: Path, known: Catalog) -> None:
    out = io.BytesIO()
    content = bundle.export(locate("demo", there, known), out)
    assert {"LICENSE", "model.bin"} <= set(content.files)
    with pytest.raises(ModelUnavailable, match=r"'demo' is the name of another model here: .*--as NAME"):
        bundle.import_(io.BytesIO(out.getvalue()), there, known)
    assert bundle.import_(io.BytesIO(out.getvalue()), there, known, label="trial") == there / "trial"
    assert verify(locate("trial", there, known)) == []


def test_an_import_of_an_installed_model_changes_nothing(content: bytes, there: Path, known: Catalog) -> None:
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
def test_a_damaged_model_is_repaired(
    content: bytes, model: InstalledModel, there: Path, known: Catalog, damage: Callable[[Path], object]
) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    damage(folder / "model.bin")
    assert bundle.import_(io.BytesIO(content), there, known) == folder
    assert contents(folder) == contents(model.folder)
    assert left_in(there) == [LABEL]


def test_a_damaged_model_stays_if_the_bundle_is_damaged_too(content: bytes, there: Path, known: Catalog) -> None:
    folder = bundle.import_(io.BytesIO(content), there, known)
    (folder / "model.bin").write_bytes(b"short")
    before = contents(folder)
    with pytest.raises(ModelUnavailable, match="it is truncated"):
        bundle.import_(io.BytesIO(content[: len(content) // 2]), there, known)
    assert contents(folder) == before


def test_a_damaged_model_is_not_exported(model: InstalledModel) -> None:
    path = model.folder / "model.bin"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelUnavailable, match=r"model\.bin is damaged: it does not match its checksum"):
        bundle.export(model, io.BytesIO())


def test_an_incomplete_model_is_not_exported(tmp_path: Path, known: Catalog) -> None:
    folder = pulled(tmp_path / "Systran--faster-whisper-tiny")
    (folder / "model.bin").unlink()
    with pytest.raises(ModelUnavailable, match=r"tiny can't be exported: incomplete: lacks model\.bin"):
        bundle.export(locate("tiny", tmp_path, known), io.BytesIO())


def test_ctrl_c_leaves_nothing(content: bytes, there: Path, known: Catalog) -> None:
    with pytest.raises(KeyboardInterrupt):
        bundle.import_(Interrupted(content, KeyboardInterrupt()), there, known)  # type: ignore[arg-type]
    assert left_in(there) == []
    assert bundle.import_(io.BytesIO(content), there, known).exists()


def test_leftovers_of_a_killed_import_are_removed(content: bytes, there: Path, known: Catalog) -> None:
    filled(there / f".{LABEL}.importing", "model.bin", "junk")
    bundle.import_(io.BytesIO(content), there, known)
    assert left_in(there) == [LABEL]
    assert "junk" not in contents(there / LABEL)
