"""Models that are folders already: copied or linked into the models directory."""

import hashlib
from pathlib import Path

import pytest

from server.errors import InsufficientStorage, ModelUnavailable, PullFailed
from server.models import folders, installed, manifest
from server.models.catalog_file import Catalog, CatalogEntry
from server.models.manifest import FileInfo, Manifest
from server.models.progress import Progress
from tests.support.model_folders import WHOLE, cached, fill_disk, filled, pulled

REPOSITORY = "me/small"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with a model, as a user has it somewhere."""
    folder = pulled(tmp_path / "disk" / "my-model", REPOSITORY)
    (folder / manifest.NAME).unlink()
    filled(folder, "LICENSE", "notes.txt")
    return folder


@pytest.fixture
def known(source: Path, tmp_path: Path) -> Catalog:
    """A catalog that has the source's files, by their checksums, under the name `small`."""
    pinned = {
        name: FileInfo((source / name).stat().st_size, hashlib.sha256((source / name).read_bytes()).hexdigest())
        for name in WHOLE
    }
    return Catalog((CatalogEntry("small", tmp_path, repository=REPOSITORY, pinned=pinned),))


NOTHING_KNOWN = Catalog(())


def test_a_folder_is_copied_under_its_own_name(source: Path, models: Path) -> None:
    folder = folders.import_folder(source, models, NOTHING_KNOWN)
    assert folder == models / "my-model"
    assert sorted(file.name for file in folder.iterdir()) == sorted([*WHOLE, "LICENSE", manifest.NAME])
    assert all((folder / name).read_bytes() == (source / name).read_bytes() for name in WHOLE)
    copied = installed.locate("my-model", models, NOTHING_KNOWN)
    assert copied.has_sums
    assert installed.verify(copied) == []
    assert copied.manifest.source == str(source)


def test_a_model_of_the_catalog_is_recognised_by_its_content(source: Path, models: Path, known: Catalog) -> None:
    assert folders.import_folder(source, models, known) == models / "me--small"
    assert installed.locate("small", models, known).problem == ""


def test_another_conversion_of_it_keeps_its_own_name(source: Path, models: Path, known: Catalog) -> None:
    content = (source / "model.bin").read_bytes()
    (source / "model.bin").write_bytes(content[:-1] + b"!")
    assert folders.import_folder(source, models, known) == models / "my-model"
    with pytest.raises(
        ModelUnavailable, match=r"files differ from 'small' in the catalog \(model\.bin\).*--as NAME"
    ):
        folders.import_folder(source, models, known, label="small")
    with pytest.raises(ModelUnavailable, match=r"differ from 'small' in the catalog \(model\.bin\)"):
        folders.import_folder(source, models, known, label="me--small")


def test_a_link_leaves_the_files_where_they_are(source: Path, models: Path) -> None:
    folder = folders.import_folder(source, models, NOTHING_KNOWN, link=True, label="linked")
    assert folder.is_symlink()
    assert folder.resolve() == source
    assert not (source / manifest.NAME).exists()
    installed.remove(installed.locate("linked", models, NOTHING_KNOWN))
    assert (source / "model.bin").exists()


def test_a_snapshot_of_a_hub_cache_is_copied_by_content(tmp_path: Path, models: Path) -> None:
    folder = folders.import_folder(cached(tmp_path / "hub", "me/x"), models, NOTHING_KNOWN, label="x")
    assert not any(file.is_symlink() for file in folder.iterdir())


def test_an_existing_folder_in_the_models_directory_stays(source: Path, models: Path) -> None:
    folder = folders.import_folder(source, models, NOTHING_KNOWN)
    assert folders.import_folder(folder, models, NOTHING_KNOWN) == folder
    with pytest.raises(ModelUnavailable, match=r"already exists: remove it first"):
        folders.import_folder(source, models, NOTHING_KNOWN)


@pytest.mark.parametrize("label", ["../evil", "a/b", ".hidden"])
def test_a_name_that_is_no_folder_s_is_refused(source: Path, models: Path, label: str) -> None:
    with pytest.raises(ModelUnavailable, match="is not a valid folder name"):
        folders.import_folder(source, models, NOTHING_KNOWN, label=label)


def test_a_folder_without_a_model_is_refused(tmp_path: Path, models: Path) -> None:
    with pytest.raises(ModelUnavailable, match="is not a usable model"):
        folders.import_folder(filled(tmp_path / "photos", "one.jpg"), models, NOTHING_KNOWN)


def test_a_disk_that_fills_leaves_nothing(source: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_disk(monkeypatch, 100)
    with pytest.raises(InsufficientStorage):
        folders.import_folder(source, models, NOTHING_KNOWN)
    assert [path.name for path in models.iterdir()] == [".my-model.lock"]


def test_progress_names_each_file(source: Path, models: Path) -> None:
    steps: list[Progress] = []
    folders.import_folder(source, models, NOTHING_KNOWN, report=steps.append)
    assert {step.file for step in steps} == {*WHOLE, "LICENSE"}
    assert all(step.done < step.total for step in steps)


def test_a_damaged_model_gets_no_new_checksums(source: Path, models: Path) -> None:
    folder = folders.import_folder(source, models, NOTHING_KNOWN)
    content = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(content[:-1] + b"!")
    with pytest.raises(PullFailed, match=r"model\.bin is damaged: it does not match its checksum"):
        folders.import_folder(folder, models, NOTHING_KNOWN, label="again")
    assert not (models / "again").exists()


def test_every_file_of_the_entry_is_copied_once(source: Path, models: Path) -> None:
    filled(source, "extra.json")
    target, origin = models / "me--small", Manifest(REPOSITORY, source="a share")
    for _ in range(2):  # the second finds it whole, as one that waited for the first
        folders.copy_pinned(source, (*WHOLE, "extra.json"), {}, target, origin)
        (source / "extra.json").write_text("other")
    assert (target / "extra.json").read_text() == "{}"


def test_a_copy_of_other_files_than_pinned_is_no_model(source: Path, models: Path, known: Catalog) -> None:
    (small,) = known.models
    target, origin = models / "me--small", Manifest(REPOSITORY, source="a share")
    folders.copy_pinned(source, small.files, small.pinned, target, origin)
    assert manifest.read(target).source == "a share"
    installed.remove(installed.locate("small", models, known))
    (source / "vocabulary.json").write_text("{}")
    with pytest.raises(PullFailed, match=r"vocabulary\.json differs from the file in Sotto's catalog"):
        folders.copy_pinned(source, small.files, small.pinned, target, origin)
    assert not target.exists()
