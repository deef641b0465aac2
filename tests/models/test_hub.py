import hashlib
import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import close_session, constants

from server.errors import ModelLocked, ModelUnavailable
from server.models import catalog, hub, manifest
from server.models.catalog_file import REQUIRED
from server.models.folder_lock import SPARE_BYTES
from server.models.progress import Progress
from tests.support.hub_standin import Hub, Repository, serve
from tests.support.model_folders import fill_disk

NAME = "Systran/faster-whisper-tiny"
FILES = {
    "config.json": b'{"alignment_heads": []}',
    "model.bin": bytes(range(256)) * 1200,
    "tokenizer.json": b"{}" * 5000,
    "vocabulary.txt": b"a\nb\n",
}
OTHERS = {
    "README.md": b"# tiny",
    ".gitattributes": b"*.bin lfs",
    "onnx/config.json": b"{}",
    "vocabulary.x/../../../evil": b"!",
}
HALF = len(FILES["model.bin"]) // 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "RETRY_WAIT_S", 0.0)
    close_session()  # it keeps the proxies of the environment that it was made in
    yield
    close_session()


@pytest.fixture
def standin() -> Iterator[Hub]:
    with serve() as running:
        running.repositories[NAME] = Repository(FILES | OTHERS)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "Systran--faster-whisper-tiny"


def pull(standin: Hub, folder: Path, name: str = NAME, progress: io.StringIO | None = None) -> Path:
    return hub.pull(name, REQUIRED, folder, endpoint=standin.endpoint, progress=progress)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != manifest.NAME}


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


def test_what_the_catalog_wants_is_pulled_and_then_found(standin: Hub, tmp_path: Path) -> None:
    found = catalog.resolve("tiny", tmp_path)
    assert found.folder is None
    assert found.repository is not None
    hub.pull(found.repository, found.files, found.target, endpoint=standin.endpoint)
    assert catalog.resolve("tiny", tmp_path).folder == found.target


def test_bar_shows_on_a_terminal_only(standin: Hub, folder: Path) -> None:
    terminal, file = Terminal(), io.StringIO()
    pull(standin, folder, progress=terminal)
    pull(standin, folder.with_name("again"), progress=file)
    assert f"{NAME}: 100%" in terminal.getvalue()
    assert file.getvalue() == ""


def test_second_pull_asks_nothing(standin: Hub, folder: Path) -> None:
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


def test_fresh_process_asks_for_nothing_but_the_model(standin: Hub, folder: Path, tmp_path: Path) -> None:
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


def test_token_goes_to_the_hub_but_not_to_the_store(
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


def test_broken_line_goes_on_where_it_was(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF, 0, 1000]
    assert contents(pull(standin, folder)) == FILES
    assert [request.headers["Range"] for request in standin.requests_for("model.bin")] == [
        None,
        f"bytes={HALF}-",
        f"bytes={HALF}-",
        f"bytes={HALF + 1000}-",
    ]


def test_line_may_break_as_often_as_it_likes_while_bytes_come(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [1000] * (3 * hub.RETRIES)
    assert contents(pull(standin, folder)) == FILES


def test_given_up_pull_is_no_model_and_goes_on_next_time(standin: Hub, folder: Path) -> None:
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


def test_bar_of_a_resumed_pull_ends_at_the_whole(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    terminal = Terminal()
    pull(standin, folder, progress=terminal)
    assert "100%" in terminal.getvalue().splitlines()[-1]


def test_files_are_asked_for_as_they_are(standin: Hub, folder: Path) -> None:
    pull(standin, folder)  # an offset into a compressed body would mean nothing
    assert {request.headers["Accept-Encoding"] for request in standin.requests_for("")} == {"identity"}


def test_store_that_ignores_ranges_gives_the_same_bytes(standin: Hub, folder: Path) -> None:
    standin.ranges = False
    standin.cuts["model.bin"] = [HALF]
    assert contents(pull(standin, folder)) == FILES


def test_new_revision_makes_an_interrupted_pull_start_anew(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    newer = FILES | {"model.bin": b"new" * 100_000}
    standin.repositories[NAME] = Repository(newer, revision="2" * 40)
    assert contents(pull(standin, folder)) == newer
    assert json.loads((folder / "source.json").read_text())["revision"] == "2" * 40


def test_new_revision_of_the_same_weights_goes_on_where_the_old_one_was(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    standin.requests.clear()
    newer = FILES | {"config.json": b'{"alignment_heads": [[1, 2]]}'}
    standin.repositories[NAME] = Repository(newer, revision="2" * 40)
    assert contents(pull(standin, folder)) == newer
    assert [request.headers["Range"] for request in standin.requests_for("model.bin")] == [f"bytes={HALF}-"]


def test_new_revision_with_other_content_of_equal_size_starts_these_files_anew(standin: Hub, folder: Path) -> None:
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


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_damaged_file_is_refused_and_removed(standin: Hub, folder: Path, name: str) -> None:
    standin.spoiled = {name}
    with pytest.raises(ModelUnavailable, match=f"{name} of {NAME} arrived damaged and was removed"):
        pull(standin, folder)
    assert not folder.exists()
    assert not list(folder.parent.glob(f"*/{name}"))
    standin.spoiled = set()
    assert contents(pull(standin, folder)) == FILES


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_says_what_to_place_where(
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
        (Repository({}, info_status=403), "may not be read.*HF_TOKEN"),
        (
            Repository({}, info_status=403, error_code="GatedRepo"),
            "is gated: accept its conditions at http.*HF_TOKEN",
        ),
        (Repository(FILES, file_status=401, error_code="GatedRepo"), "is gated"),
        (Repository(FILES, file_status=403), "may not be read"),
        (Repository({}, info_status=503), "answers 503: try again later"),
        (Repository(FILES, file_status=503), "broke off at 0.0 MB"),
    ],
)
def test_refusals_are_told_apart(standin: Hub, folder: Path, repository: Repository, message: str) -> None:
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


def test_unreachable_hub_fails_soon(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ModelUnavailable, match="can't be reached"):
        hub.pull(NAME, REQUIRED, folder, endpoint=f"http://127.0.0.1:{port}")
    assert time.monotonic() - started < hub.TIMEOUT_S  # measured: 0.1 s


def test_silent_hub_fails_in_bounded_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(ModelUnavailable, match="timed out"):
        hub.pull(NAME, REQUIRED, folder, endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}")


def test_silent_store_fails_in_bounded_time(standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(hub, "RETRIES", 1)
    standin.held["model.bin"] = threading.Event()
    with pytest.raises(ModelUnavailable, match=r"model\.bin of .* broke off at 0\.2 MB .*timed out"):
        pull(standin, folder)
    standin.held["model.bin"].set()


def test_login_page_is_no_hub(standin: Hub, folder: Path) -> None:
    standin.raw = b"<html>please log in</html>"
    with pytest.raises(ModelUnavailable, match="does not answer as a model hub does"):
        pull(standin, folder)


@pytest.mark.parametrize("lacking", ["size", "blobId", "sha"])
def test_hub_that_tells_nothing_to_check_by_is_not_used(standin: Hub, folder: Path, lacking: str) -> None:
    told = json.loads(standin.repositories[NAME].listing(NAME))
    for each in (told, *told["siblings"]):
        each.pop(lacking, None)
    standin.raw = json.dumps(told).encode()
    with pytest.raises(ModelUnavailable, match=f"tells no revision, sizes or sums for {NAME}"):
        pull(standin, folder)


def test_what_is_there_already_needs_no_room(standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    usage = namedtuple("usage", "total used free")
    left = sum(map(len, FILES.values())) - HALF
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, SPARE_BYTES + left))
    assert contents(pull(standin, folder)) == FILES


def test_full_disk_is_told_before_the_download(standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(ModelUnavailable, match=r"needs 67\.4 MB more in .* has 0\.0 MB free"):
        pull(standin, folder)
    assert standin.requests_for("model.bin") == []


def test_disk_that_fills_on_the_way_keeps_what_fits_for_the_next_pull(
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


def test_hub_that_lies_about_a_checksum_is_not_believed(standin: Hub, folder: Path) -> None:
    standin.lies = {"model.bin"}
    with pytest.raises(ModelUnavailable, match=r"model\.bin .* arrived damaged and was removed: .* instead of .*"):
        pull(standin, folder)
    assert not folder.exists()


def test_hub_that_sends_more_than_it_says_does_not_fill_the_disk(standin: Hub, folder: Path) -> None:
    standin.repositories[NAME].files["model.bin"] = b"x" * 300
    standin.longer = {"model.bin": 50_000_000}
    with pytest.raises(ModelUnavailable, match=r"arrived damaged and was removed: \d{3,7} bytes,"):
        pull(standin, folder)


def test_progress_is_told_in_bytes_of_the_whole(standin: Hub, folder: Path) -> None:
    standin.cuts["model.bin"] = [HALF]
    told: list[Progress] = []
    hub.pull(NAME, REQUIRED, folder, endpoint=standin.endpoint, report=told.append)
    size = sum(map(len, FILES.values()))
    assert told[0] == Progress(NAME, 0, size, "config.json", "downloading")
    assert told[-1] == Progress(NAME, size, size, "vocabulary.txt", "verifying")
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert list(dict.fromkeys(each.file for each in told)) == list(FILES)


def test_who_is_told_may_end_the_pull_and_go_on_later(standin: Hub, folder: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.pull(NAME, REQUIRED, folder, endpoint=standin.endpoint, report=stop)
    assert not folder.exists()
    standin.requests.clear()
    assert contents(pull(standin, folder)) == FILES
    assert standin.requests_for("model.bin")[0].headers["Range"] is not None


def test_folder_that_can_t_be_made_is_named(standin: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match=r"file \(SOTTO_MODELS_DIR\) can't be written"):
        pull(standin, tmp_path / "file" / "model")


def test_truncated_pull_is_replaced(standin: Hub, folder: Path) -> None:
    pull(standin, folder)
    (folder / "model.bin").write_bytes(b"short")
    assert contents(pull(standin, folder)) == FILES


def test_what_a_person_put_there_is_used_but_never_replaced(standin: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"mine")
    with pytest.raises(ModelUnavailable, match="not pulled by Sotto: complete it, or remove it"):
        pull(standin, folder)
    assert contents(folder) == {"model.bin": b"mine"}
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).touch()
    with pytest.raises(ModelUnavailable, match="complete it"):
        pull(standin, folder)
    standin.requests.clear()
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).write_text("{}")
    assert pull(standin, folder) == folder
    assert standin.requests == []


def test_link_that_leads_nowhere_is_replaced(standin: Hub, folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "gone")
    assert contents(pull(standin, folder)) == FILES
    assert not folder.is_symlink()


def test_link_to_a_truncated_pull_is_replaced_and_not_what_it_leads_to(
    standin: Hub, folder: Path, tmp_path: Path
) -> None:
    elsewhere = pull(standin, tmp_path / "elsewhere")
    (elsewhere / "model.bin").write_bytes(b"short")
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    assert contents(pull(standin, folder)) == FILES
    assert not folder.is_symlink()
    assert (elsewhere / "model.bin").read_bytes() == b"short"


@pytest.mark.parametrize("linked", [False, True])
def test_file_with_the_folder_s_name_is_refused_before_the_download(
    standin: Hub, folder: Path, tmp_path: Path, linked: bool
) -> None:
    folder.parent.mkdir()
    file = tmp_path / "file" if linked else folder
    file.write_text("mine")
    if linked:
        folder.symlink_to(file)
    with pytest.raises(ModelLocked, match="is not a folder: remove it"):
        pull(standin, folder)
    assert file.read_text() == "mine"
    assert standin.requests_for("") == []


def test_two_at_once_pull_once(standin: Hub, folder: Path) -> None:
    threads = [threading.Thread(target=pull, args=(standin, folder)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(folder) == FILES
    assert len(standin.requests_for("model.bin")) == 1
