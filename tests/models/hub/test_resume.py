"""Pulls that break off: the next one resumes where the bytes are still good."""

import json
from pathlib import Path

import pytest

from server.errors import ModelUnavailable
from server.models import catalog, hub
from server.models.catalog_file import REQUIRED
from server.models.progress import Progress
from tests.models.hub.conftest import FILES, HALF, NAME, Terminal, contents, pull
from tests.support.hub_standin import Hub, Repository
from tests.support.model_folders import fill_disk


def test_a_broken_connection_is_resumed_where_it_was(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF, 0, 1000]
    assert contents(pull(standin, folder)) == FILES
    assert [request.headers["Range"] for request in standin.requests_for("model.bin")] == [
        None,
        f"bytes={HALF}-",
        f"bytes={HALF}-",
        f"bytes={HALF + 1000}-",
    ]


def test_a_connection_may_break_any_number_of_times_while_bytes_come(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [1000] * (3 * hub.RETRIES)
    assert contents(pull(standin, folder)) == FILES


def test_an_abandoned_pull_is_no_model_and_is_resumed_next_time(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable, match=r"model\.bin of .* broke off at 0\.2 MB of 0\.3 MB"):
        pull(standin, folder)
    assert not folder.exists()
    assert catalog.missing(folder) == list(REQUIRED)
    standin.cuts.clear()
    standin.requests.clear()
    assert contents(pull(standin, folder)) == FILES
    assert [request.headers["Range"] for request in standin.requests_for("model.bin")] == [f"bytes={HALF}-"]
    assert standin.requests_for("config.json") == []


def test_the_bar_of_a_resumed_pull_ends_at_the_whole(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    terminal = Terminal()
    pull(standin, folder, progress=terminal)
    assert "100%" in terminal.getvalue().splitlines()[-1]


def test_files_are_requested_uncompressed(standin: Hub, folder: Path) -> None:
    pull(standin, folder)  # an offset into a compressed body would mean nothing
    assert {request.headers["Accept-Encoding"] for request in standin.requests_for("")} == {"identity"}


def test_a_store_that_ignores_ranges_gives_the_same_bytes(standin: Hub, folder: Path) -> None:
    standin.ranges = False
    standin.cuts["model.bin"] = [HALF]
    assert contents(pull(standin, folder)) == FILES


def test_a_new_revision_restarts_an_interrupted_pull(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    newer = FILES | {"model.bin": b"new" * 100_000}
    standin.repositories[NAME] = Repository(newer, revision="2" * 40)
    assert contents(pull(standin, folder)) == newer
    assert json.loads((folder / "source.json").read_text())["revision"] == "2" * 40


def test_a_new_revision_of_the_same_weights_resumes_the_old_pull(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    standin.requests.clear()
    newer = FILES | {"config.json": b'{"alignment_heads": [[1, 2]]}'}
    standin.repositories[NAME] = Repository(newer, revision="2" * 40)
    assert contents(pull(standin, folder)) == newer
    assert [request.headers["Range"] for request in standin.requests_for("model.bin")] == [f"bytes={HALF}-"]


def test_a_new_revision_with_other_content_restarts_these_files(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    standin.requests.clear()
    newer = {name: content[::-1] for name, content in FILES.items()}
    standin.repositories[NAME] = Repository(newer, revision="2" * 40)
    assert contents(pull(standin, folder)) == newer
    assert {request.headers["Range"] for request in standin.requests_for("")} == {None}


def test_files_that_the_new_revision_lacks_do_not_come_along(standin: Hub, folder: Path) -> None:
    standin.repositories[NAME].files["preprocessor_config.json"] = b"{}"
    standin.repositories[NAME].files["vocabulary.json"] = b"[]"
    standin.cuts["vocabulary.txt"] = [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    standin.repositories[NAME] = Repository(FILES, revision="2" * 40)
    assert contents(pull(standin, folder)) == FILES


def test_a_disk_that_fills_during_a_pull_keeps_the_bytes_for_the_next(
    standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fill_disk(patch, HALF)
        with pytest.raises(ModelUnavailable, match=r"can't be written: .*No space left on device"):
            pull(standin, folder)
    assert not folder.exists()
    standin.requests.clear()
    assert contents(pull(standin, folder)) == FILES
    assert [request.headers["Range"] for request in standin.requests_for("model.bin")] == [f"bytes={HALF}-"]


def test_a_report_may_end_the_pull_which_resumes_later(standin: Hub, folder: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.pull(NAME, REQUIRED, folder, endpoint=standin.endpoint, report=stop)
    assert not folder.exists()
    standin.requests.clear()
    assert contents(pull(standin, folder)) == FILES
    assert standin.requests_for("model.bin")[0].headers["Range"] is not None
