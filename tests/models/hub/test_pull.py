"""Pulls from the hub: the files, their order, progress and requests."""

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants

from server.models import catalog, hub
from server.models.catalog_file import REQUIRED
from server.models.progress import Progress
from tests.models.hub.conftest import FILES, HALF, NAME, Terminal, contents, pull
from tests.support.hub_standin import Hub


def test_pull_brings_the_wanted_files_and_records_their_source(standin: Hub, folder: Path) -> None:
    assert pull(standin, folder) == folder
    assert contents(folder) == FILES
    record = json.loads((folder / "source.json").read_text())
    assert record["repository"] == NAME
    assert record["revision"] == "1" * 40
    assert record["files"] == {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in FILES.items()
    }
    assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")] == [folder.name]


def test_optional_file_comes_along_where_there_is_one(standin: Hub, folder: Path) -> None:
    standin.repositories[NAME].files["preprocessor_config.json"] = b'{"feature_size": 128}'
    assert contents(pull(standin, folder))["preprocessor_config.json"] == b'{"feature_size": 128}'


def test_the_catalogs_files_are_pulled_and_then_found(standin: Hub, tmp_path: Path) -> None:
    found = catalog.resolve("tiny", tmp_path)
    assert found.folder is None
    assert found.repository is not None
    hub.pull(found.repository, found.files, found.target, endpoint=standin.endpoint)
    assert catalog.resolve("tiny", tmp_path).folder == found.target


def test_the_bar_shows_on_a_terminal_only(standin: Hub, folder: Path) -> None:
    terminal, file = Terminal(), io.StringIO()
    pull(standin, folder, progress=terminal)
    pull(standin, folder.with_name("again"), progress=file)
    assert f"{NAME}: 100%" in terminal.getvalue()
    assert file.getvalue() == ""


def test_a_second_pull_makes_no_request(standin: Hub, folder: Path) -> None:
    pull(standin, folder)
    standin.requests.clear()
    assert pull(standin, folder) == folder
    assert hub.pull(NAME, REQUIRED, folder, offline=True) == folder
    assert standin.requests == []


def test_requests_carry_no_token_and_name_only_the_program(
    standin: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("hf_stored")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    pull(standin, folder)
    assert {request.headers["User-Agent"].split("/")[0] for request in standin.requests} == {"sotto"}
    assert {request.headers["Authorization"] for request in standin.requests} == {None}


def test_a_fresh_process_asks_for_nothing_but_the_model(standin: Hub, folder: Path, tmp_path: Path) -> None:
    # huggingface_hub asks the hub for a list of tools once a process and day, to name the one it runs in.
    code = (
        f"from server.models import hub; from pathlib import Path; "
        f"hub.pull({NAME!r}, ['*.json'], Path({str(folder)!r}))"
    )
    environment = os.environ | {"HF_ENDPOINT": standin.endpoint, "HF_HOME": str(tmp_path), "AI_AGENT": "some"}
    subprocess.run(
        [sys.executable, "-c", code], cwd=catalog.PACKAGE.parent, env=environment, check=True, timeout=60
    )
    asked = {urlsplit(request.path).path.split("/")[1] for request in standin.requests}
    assert asked == {"api", "Systran", "store"}
    assert [request.path for request in standin.requests if "/api/" in request.path] == [
        f"/api/models/{NAME}?blobs=true"
    ]


def test_a_token_goes_to_the_hub_but_not_to_the_store(
    standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    pull(standin, folder)
    assert standin.requests_for("model.bin")[0].headers["Authorization"] is None
    assert standin.requests[0].headers["Authorization"] == "Bearer hf_mine"
    resolved = [request for request in standin.requests if "resolve" in request.path]
    assert {request.headers["Authorization"] for request in resolved} == {"Bearer hf_mine"}


def test_addresses_of_the_store_are_not_logged(
    standin: Hub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pull(standin, folder)
    assert [record.name for record in caplog.records] == ["server.models.hub"] * 2


def test_progress_is_in_bytes_of_the_whole(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF]
    reports: list[Progress] = []
    hub.pull(NAME, REQUIRED, folder, endpoint=standin.endpoint, report=reports.append)
    size = sum(map(len, FILES.values()))
    assert reports[0] == Progress(NAME, 0, size, "config.json", "downloading")
    assert reports[-1] == Progress(NAME, size, size, "vocabulary.txt", "verifying")
    assert [each.done for each in reports] == sorted(each.done for each in reports)
    assert list(dict.fromkeys(each.file for each in reports)) == list(FILES)
