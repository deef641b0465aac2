"""What lies in a models directory, and what may be done to it."""

import hashlib
import json
import threading
from pathlib import Path

import pytest

from server.errors import ModelUnavailable, PermissionDenied
from server.models import catalog, manifest
from server.models.catalog import load, resolve
from server.models.catalog_file import Catalog, CatalogEntry
from server.models.folder_lock import locked
from server.models.installed import (
    InstalledModel,
    best,
    default_name,
    differing,
    installed,
    locate,
    record_sums,
    remove,
    verify,
)
from server.models.manifest import FileInfo
from server.models.progress import Progress
from server.settings import Settings
from tests.support.model_folders import WHOLE, cached, filled, pulled

TINY = "Systran--faster-whisper-tiny"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return filled(tmp_path / "models")


@pytest.fixture(scope="module")
def known() -> Catalog:
    return catalog.load()


def everything(folder: Path) -> list[str]:
    """What is there, lock files aside."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def the(models: Path, known: Catalog, name: str) -> InstalledModel:
    return next(each for each in installed(models, known) if name in each.names)


def test_the_bundled_model_is_there_without_a_models_directory(tmp_path: Path, known: Catalog) -> None:
    (demo,) = installed(tmp_path / "none", known)
    assert (demo.name, demo.problem, demo.languages, demo.removable) == ("demo", "", "multilingual", False)
    assert demo.size > 12_000_000
    assert demo.dimensions is not None
    assert verify(demo) == []


def test_models_are_recognised_by_their_files(models: Path, known: Catalog) -> None:
    pulled(models / TINY, "Systran/faster-whisper-tiny")
    pulled(models / "someone--whisper-ct2", "someone/whisper-ct2")
    filled(models / "clinic", *WHOLE)
    filled(models / "small", *WHOLE)  # a folder called as a model of the catalog is that model
    filled(models / "whisper-tiny", *WHOLE)  # a second one of that name
    filled(models / "lost+found")
    filled(models / "photos", "one.jpg")
    filled(models / ".hidden", *WHOLE)
    (models / "notes.txt").touch()
    assert [each.names for each in installed(models, known)[1:]] == [
        ("tiny", "whisper-tiny", "Systran/faster-whisper-tiny"),
        ("clinic",),
        ("small", "whisper-small", "Systran/faster-whisper-small"),
        ("someone/whisper-ct2", "someone--whisper-ct2"),
        (str(models / "whisper-tiny"),),
    ]
    assert [each.problem for each in installed(models, known)] == [""] * 6
    assert the(models, known, "tiny").languages == "multilingual"
    assert the(models, known, "clinic").languages is None


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("missing", "incomplete: lacks tokenizer.json"),
        ("short", "damaged: model.bin"),
        ("pointer", "only a Git LFS pointer"),
    ],
)
def test_a_damaged_model_has_a_problem(models: Path, known: Catalog, spoil: str, problem: str) -> None:
    folder = pulled(models / TINY)
    if spoil == "missing":
        (folder / "tokenizer.json").unlink()
    else:
        content = {"short": "short", "pointer": "version https://git-lfs.github.com/spec/v1"}[spoil]
        (folder / "model.bin").write_text(content)
    assert problem in the(models, known, "tiny").problem


def test_an_interrupted_pull_is_shown_until_it_is_whole(models: Path, known: Catalog) -> None:
    partial = pulled(models / f"{TINY}.partial", "Systran/faster-whisper-tiny")
    (partial / "model.bin").write_bytes(b"half")
    tiny = the(models, known, "tiny")
    assert tiny.problem == "pull interrupted at 0.1 MB of 0.2 MB"
    pulled(models / TINY)
    assert the(models, known, "tiny").folder == models / TINY


def test_checkout_s_folder_may_be_the_models_directory(known: Catalog) -> None:
    names = [each.name for each in installed(catalog.data_path("demo").parent, known)]
    assert names.count("demo") == 1


def test_operator_s_own_path_is_listed_and_kept(models: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('[models.mine]\npath = "elsewhere"\nlanguages = "de"')
    known = catalog.load(own)
    assert "can't be read: No such file" in the(models, known, "mine").problem
    filled(tmp_path / "elsewhere", *WHOLE)
    mine = the(models, known, "mine")
    assert (mine.problem, mine.languages, mine.folder) == ("", "de", tmp_path / "elsewhere")
    with pytest.raises(PermissionDenied, match="is not in SOTTO_MODELS_DIR"):
        remove(mine)


# locate


@pytest.mark.parametrize("name", ["tiny", "TINY", "whisper-tiny", "Systran/faster-whisper-tiny", TINY])
def test_a_model_is_located_by_each_of_its_names(models: Path, known: Catalog, name: str) -> None:
    pulled(models / TINY)
    assert locate(name, models, known).folder == models / TINY


def test_any_directory_is_located(models: Path, known: Catalog, tmp_path: Path) -> None:
    folder = filled(tmp_path / "elsewhere", *WHOLE)
    found = locate(str(folder), models, known)
    assert (found.folder, found.removable) == (folder, False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small", "small is not on this machine; to get it: sotto models pull small"),
        ("who/what", "who/what is not on this machine"),
        ("smal", "Unknown model 'smal'.*Did you mean small"),
    ],
)
def test_a_missing_model_is_an_error(models: Path, known: Catalog, name: str, message: str) -> None:
    with pytest.raises(ModelUnavailable, match=message):
        locate(name, models, known)


# remove


def test_a_removed_model_is_gone_and_others_stay(models: Path, known: Catalog) -> None:
    pulled(models / TINY)
    pulled(models / f"{TINY}.partial")
    pulled(models / "other")
    remove(locate("tiny", models, known))
    assert everything(models) == ["other"]


def test_an_interrupted_pull_can_be_removed(models: Path, known: Catalog) -> None:
    pulled(models / f"{TINY}.partial")
    remove(locate("tiny", models, known))
    assert everything(models) == []


def test_leftovers_of_killed_processes_are_removed_with_the_model(models: Path, known: Catalog) -> None:
    pulled(models / TINY)
    filled(models / f".{TINY}-en.importing", "model.bin")  # of another model
    for suffix in ("wheels", "importing", "removed", "partial.removed"):
        filled(models / f".{TINY}.{suffix}", "model.bin")
    remove(locate("tiny", models, known))
    assert everything(models) == [f".{TINY}-en.importing"]


@pytest.mark.parametrize("place", ["packaged", "models directory"])
def test_the_bundled_model_is_never_removed(models: Path, known: Catalog, place: str) -> None:
    demo = catalog.data_path("demo")
    with pytest.raises(PermissionDenied, match="comes with Sotto"):
        remove(locate("demo", models if place == "packaged" else demo.parent, known))
    assert (demo / "model.bin").exists()


def test_model_elsewhere_is_never_removed(models: Path, known: Catalog, tmp_path: Path) -> None:
    folder = filled(tmp_path / "elsewhere", *WHOLE)
    for name in (str(folder), f"{models}/../elsewhere"):
        with pytest.raises(PermissionDenied, match="is not in SOTTO_MODELS_DIR"):
            remove(locate(name, models, known))
    assert len(everything(folder)) == len(WHOLE)


def test_a_link_is_removed_but_not_its_target(models: Path, known: Catalog, tmp_path: Path) -> None:
    folder = filled(tmp_path / "elsewhere", *WHOLE)
    (models / "linked").symlink_to(folder)
    remove(locate("linked", models, known))
    assert everything(models) == []
    assert len(everything(folder)) == len(WHOLE)


def test_a_model_that_is_being_written_is_not_removed(models: Path, known: Catalog) -> None:
    pulled(models / TINY)
    with locked(models / TINY), pytest.raises(ModelUnavailable, match=r"another process is writing .*-tiny"):
        remove(locate("tiny", models, known))
    assert (models / TINY).exists()
    remove(locate("tiny", models, known))


def test_a_waiting_caller_gets_the_folder_when_it_is_free(models: Path) -> None:
    entered: list[str] = []

    def second() -> None:
        with locked(models / TINY):
            entered.append("second")

    with locked(models / TINY):
        thread = threading.Thread(target=second)
        thread.start()
        entered.append("first")
    thread.join(30)
    assert entered == ["first", "second"]


# verify and record


@pytest.fixture
def tiny(models: Path, known: Catalog) -> InstalledModel:
    pulled(models / TINY)
    return locate("tiny", models, known)


def test_a_whole_model_is_verified_and_progress_reported(tiny: InstalledModel) -> None:
    reports: list[Progress] = []
    assert verify(tiny, reports.append) == []
    size = tiny.manifest.size
    assert reports[-1] == Progress("tiny", size, size)


def test_a_flipped_bit_and_a_lost_file_are_found(tiny: InstalledModel) -> None:
    path = tiny.folder / "model.bin"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    (tiny.folder / "vocabulary.json").unlink()
    assert verify(tiny) == ["vocabulary.json is missing", "model.bin is damaged"]


def test_hand_placed_model_has_no_checksums_until_they_are_recorded(models: Path, known: Catalog) -> None:
    folder = filled(models / "clinic", *WHOLE, "LICENSE", "notes.txt")
    with pytest.raises(ModelUnavailable, match="has no checksums to compare with: its files were placed by hand"):
        verify(locate("clinic", models, known))
    record_sums(locate("clinic", models, known))
    assert set(json.loads((folder / manifest.NAME).read_text())["files"]) == {*WHOLE, "LICENSE"}
    assert verify(locate("clinic", models, known)) == []
    (folder / "config.json").write_text("[]")
    assert verify(locate("clinic", models, known)) == ["config.json is damaged"]
    with pytest.raises(ModelUnavailable, match=r"already has checksums; .*source\.json"):
        record_sums(locate("clinic", models, known))


def test_nothing_is_recorded_of_what_is_no_model(models: Path, known: Catalog) -> None:
    filled(models / "half", *WHOLE[:2])
    with pytest.raises(ModelUnavailable, match="it lacks tokenizer"):
        record_sums(the(models, known, "half"))


# Where no model is named


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        ([], "demo"),
        (["tiny", "base", "small"], "small"),
        (["large-v3", "turbo", "medium"], "large-v3-turbo"),
        (["base.en", "clinic", "tiny"], "tiny"),
        (["tiny.en", "clinic"], "clinic"),
    ],
)
def test_the_best_installed_model_is_served(models: Path, known: Catalog, folders: list[str], name: str) -> None:
    for folder in folders:
        filled(models / folder, *WHOLE, "preprocessor_config.json")
    if "clinic" in folders:
        (models / "clinic" / "model.bin").write_bytes(b"{}" * 1000)  # the largest
    assert best(models, known) == name


def test_a_model_of_the_models_directory_is_served_before_a_better_one_elsewhere(
    models: Path, tmp_path: Path
) -> None:
    cached(tmp_path / "hub", "Systran/faster-whisper-large-v2")
    catalogue = load(elsewhere=[tmp_path / "hub"])
    assert best(models, catalogue) == "large-v2"
    filled(models / "base", *WHOLE)
    assert best(models, catalogue) == "base"


def test_a_model_that_can_not_be_used_is_not_served(models: Path, known: Catalog) -> None:
    filled(models / "small", *WHOLE[1:])
    pulled(models / "Systran--faster-whisper-base.partial")
    assert best(models, known) == "demo"


def test_a_model_that_is_named_is_served(models: Path, known: Catalog) -> None:
    filled(models / "small", *WHOLE)
    settings = Settings(model="tiny", models_dir=models)
    assert default_name(settings, known) == "tiny"
    assert default_name(Settings(models_dir=models), known) == "small"


# Models of other programs


def test_models_of_a_hub_cache_are_listed_and_never_removed(models: Path, tmp_path: Path) -> None:
    cached(tmp_path / "hub", "Systran/faster-whisper-base")
    own = cached(tmp_path / "hub", "me/own-ct2")
    cached(tmp_path / "hub", "me/diffusion", "1" * 40, "model.safetensors")
    catalogue = load(elsewhere=[tmp_path / "hub"])
    found = installed(models, catalogue)[1:]
    assert [each.names for each in found] == [
        ("base", "whisper-base", "Systran/faster-whisper-base"),
        ("me/own-ct2",),
    ]
    with pytest.raises(PermissionDenied, match="is not in SOTTO_MODELS_DIR"):
        remove(found[1])
    assert own.is_dir()


def test_a_usable_model_has_its_name_before_a_broken_one(models: Path, tmp_path: Path) -> None:
    filled(models / "Systran--faster-whisper-base", "model.bin")
    snapshot = cached(tmp_path / "hub", "Systran/faster-whisper-base")
    catalogue = load(elsewhere=[tmp_path / "hub"])
    assert locate("base", models, catalogue).folder == snapshot
    broken = next(each for each in installed(models, catalogue) if each.problem)
    assert broken.names == (str(models / "Systran--faster-whisper-base"),)


def test_a_hand_placed_model_is_compared_with_the_catalog(models: Path, tmp_path: Path) -> None:
    folder = filled(models / "mine", *WHOLE)
    facts = FileInfo(2, hashlib.sha256(b"{}").hexdigest())
    entry = CatalogEntry("mine", tmp_path, repository="me/mine", pinned=dict.fromkeys(WHOLE, facts))
    (mine,) = installed(models, Catalog((entry,)))
    assert not mine.has_sums
    assert differing(mine) == []
    (folder / "model.bin").write_text("!!")
    (folder / "tokenizer.json").unlink()
    assert differing(mine) == ["model.bin", "tokenizer.json"]


def test_a_name_that_no_setting_takes_gives_way_to_the_path(models: Path, known: Catalog) -> None:
    folder = filled(models / "mein Modell", *WHOLE)
    assert best(models, known) == str(folder)
    assert resolve(best(models, known), models, known).folder == folder


def test_an_unreadable_folder_is_skipped(models: Path, known: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the `lost+found` of a disk, which only root may enter."""
    filled(models / "lost+found")
    filled(models / "clinic", *WHOLE)
    exists = Path.exists

    def refused(path: Path) -> bool:
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refused)
    assert best(models, known) == "clinic"
