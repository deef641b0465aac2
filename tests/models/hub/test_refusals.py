"""Hubs and files that a pull refuses, each with its message."""

import json
import shutil
import socket
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from huggingface_hub import constants

from server.errors import ModelUnavailable
from server.models import hub
from server.models.catalog_file import REQUIRED
from tests.models.hub.conftest import FILES, NAME, contents, pull
from tests.support.hub_standin import Hub, Repository


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_a_damaged_file_is_refused_and_removed(standin: Hub, folder: Path, name: str) -> None:
    standin.spoiled = {name}
    with pytest.raises(ModelUnavailable, match=f"{name} of {NAME} arrived damaged and was removed"):
        pull(standin, folder)
    assert not folder.exists()
    assert not list(folder.parent.glob(f"*/{name}"))
    standin.spoiled = set()
    assert contents(pull(standin, folder)) == FILES


@pytest.mark.parametrize("by_environment", [False, True])
def test_an_offline_error_says_which_files_go_where(
    standin: Hub, folder: Path, by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", by_environment)
    with pytest.raises(ModelUnavailable) as caught:
        hub.pull(NAME, REQUIRED, folder, offline=not by_environment, endpoint=standin.endpoint)
    for part in (*FILES, "vocabulary.json", "preprocessor_config.json", str(folder), NAME, "SOTTO_OFFLINE"):
        assert part in str(caught.value)
    assert standin.requests == []
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("repository", "message"),
    [
        (Repository({}, info_status=404), "does not exist"),
        (Repository({}, info_status=404, error_code="RepoNotFound"), "does not exist"),
        (Repository({}, info_status=401), "does not exist at .*, or is private.*HF_TOKEN"),
        (Repository({}, info_status=403), "is forbidden .*HF_TOKEN"),
        (
            Repository({}, info_status=403, error_code="GatedRepo"),
            "is gated: accept its conditions at http.*HF_TOKEN",
        ),
        (Repository(FILES, file_status=401, error_code="GatedRepo"), "is gated"),
        (Repository(FILES, file_status=403), "is forbidden "),
        (Repository({}, info_status=503), "answered 503: try again later"),
        (Repository(FILES, file_status=503), "broke off at 0.0 MB"),
    ],
)
def test_each_refusal_of_the_hub_has_its_message(
    standin: Hub, folder: Path, repository: Repository, message: str
) -> None:
    standin.repositories[NAME] = repository
    with pytest.raises(ModelUnavailable, match=f"{NAME} .*{message}"):
        pull(standin, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        (
            "openai/whisper-tiny",
            ["config.json", "model.safetensors", "tokenizer.json"],
            "in transformers format: use SOTTO_MODEL=tiny, its conversion",
        ),
        (
            "me/tuned",
            ["config.json", "model.safetensors", "tokenizer.json"],
            "--model me/tuned --output_dir tuned-ct2 --copy_files tokenizer.json --quantization float16$",
        ),
        ("me/old", ["config.json", "model.bin", "vocabulary.txt"], "it lacks tokenizer.json"),
        ("me/ggml", ["ggml-tiny.bin"], "me/ggml holds a model for whisper.cpp"),
        ("me/text", ["notes.txt"], "lacks config.json, model.bin, tokenizer.json, vocabulary.json or"),
        ("me/empty", [], "no CTranslate2"),
    ],
)
def test_other_formats_are_refused_with_a_way_out(
    standin: Hub, folder: Path, name: str, files: list[str], message: str
) -> None:
    standin.repositories[name] = Repository(dict.fromkeys(files, b"x"))
    with pytest.raises(ModelUnavailable, match=message):
        pull(standin, folder, name)
    assert len(standin.requests) == 1


def test_an_unreachable_hub_fails_soon(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match="can't be reached"):
        hub.pull(NAME, REQUIRED, folder, endpoint=f"http://127.0.0.1:{port}")
    assert time.monotonic() - started < hub.TIMEOUT_S  # measured: 0.1 s


def test_a_silent_hub_fails_in_bounded_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(ModelUnavailable, match="timed out"):
        hub.pull(NAME, REQUIRED, folder, endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}")


def test_a_silent_store_fails_in_bounded_time(standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(hub, "RETRIES", 1)
    standin.held["model.bin"] = threading.Event()
    with pytest.raises(ModelUnavailable, match=r"model\.bin of .* broke off at 0\.2 MB .*timed out"):
        pull(standin, folder)
    standin.held["model.bin"].set()


def test_a_login_page_is_not_taken_for_a_hub(standin: Hub, folder: Path) -> None:
    standin.raw = b"<html>please log in</html>"
    with pytest.raises(ModelUnavailable, match="does not respond like a model hub"):
        pull(standin, folder)


@pytest.mark.parametrize("lacking", ["size", "blobId", "sha"])
def test_a_hub_without_checksums_is_not_used(standin: Hub, folder: Path, lacking: str) -> None:
    listing = json.loads(standin.repositories[NAME].listing(NAME))
    for each in (listing, *listing["siblings"]):
        each.pop(lacking, None)
    standin.raw = json.dumps(listing).encode()
    with pytest.raises(ModelUnavailable, match=f"reports no revision, sizes or checksums for {NAME}"):
        pull(standin, folder)


def test_a_full_disk_is_reported_before_the_download(
    standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(ModelUnavailable, match=r"needs 67\.4 MB more in .* has 0\.0 MB free"):
        pull(standin, folder)
    assert standin.requests_for("model.bin") == []


def test_a_hub_with_a_wrong_checksum_is_not_believed(standin: Hub, folder: Path) -> None:
    standin.lies = {"model.bin"}
    with pytest.raises(ModelUnavailable, match=r"model\.bin .* arrived damaged and was removed: .* instead of .*"):
        pull(standin, folder)
    assert not folder.exists()


def test_a_hub_that_sends_more_than_announced_does_not_fill_the_disk(standin: Hub, folder: Path) -> None:
    standin.repositories[NAME].files["model.bin"] = b"x" * 300
    standin.longer = {"model.bin": 50_000_000}
    with pytest.raises(ModelUnavailable, match=r"arrived damaged and was removed: \d{3,7} bytes,"):
        pull(standin, folder)
