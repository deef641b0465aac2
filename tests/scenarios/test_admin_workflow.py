"""A real server, and an operator who pulls, loads, uses, unloads and deletes a model while it runs."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.cli.main import run
from server.models.catalog import SAMPLE_TEXT
from server.models.hub import TIMEOUT_S
from tests.conftest import DEMO
from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until
from tests.support.hub_standin import Hub, Repository, serve
from tests.support.serving import Running, serving
from tests.support.wire import Connection, field, file, form

ADMIN = "admin-key-0123456789abcdefgh"
ORDINARY = "other-key-0123456789abcdefgh"
NAME = "me/own"
FILES = {file.name: file.read_bytes() for file in DEMO.iterdir() if file.suffix in (".bin", ".json")}


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as running:
        running.repositories[NAME] = Repository(FILES)
        yield running


@pytest.fixture(scope="module")
def server(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        models = tmp_path_factory.mktemp("models")
        with serving(models_dir=models, api_keys=ORDINARY, admin_keys=f"boss {ADMIN}") as running:
            yield running


def ask(server: Running, method: str, path: str, key: str = ADMIN) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{server.base_url}{path}", headers=headers, timeout=100, trust_env=False)


def test_a_model_is_pulled_used_and_deleted(
    server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = (DEMO / "sample.wav").read_bytes()
    assert server.transcribe(sample, {"model": NAME}, key=ORDINARY).status_code == 404
    assert ask(server, "POST", f"/v1/models/{NAME}", ORDINARY).status_code == 403

    pulled = ask(server, "POST", f"/v1/models/{NAME}")
    assert pulled.text.endswith("data: [DONE]\r\n\r\n")
    assert '"state":"done"' in pulled.text
    assert server.get(f"/v1/models/{NAME}", key=ORDINARY).json()["state"] == "available"

    engines = server.engines()
    loaded = ask(server, "POST", f"/api/ps/{NAME}").json()
    assert (loaded["id"], loaded["state"], loaded["device"]) == (NAME, "loaded", "cpu")
    assert len(server.engines()) == len(engines) + 1
    assert server.transcribe(sample, {"model": NAME}, key=ORDINARY).json()["text"] == SAMPLE_TEXT

    monkeypatch.setenv("SOTTO_API_KEY", ORDINARY)
    assert run(["ps", "--server", server.base_url]) == 0
    head, demo, own = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["MODEL", "STATE", "DEVICE", "TYPE"]
    assert (demo.split()[0], own.split()[:4]) == ("demo", [NAME, "loaded", "cpu", "int8"])
    assert run(["ps", "--server", f"{server.base_url}/v1", "--json"]) == 0
    assert {model["id"] for model in json.loads(capsys.readouterr().out)["models"]} == {"demo", NAME}

    assert ask(server, "DELETE", f"/api/ps/{NAME}").json()["state"] == "available"
    wait_until(lambda: server.engines() == engines)
    assert ask(server, "DELETE", f"/v1/models/{NAME}").json()["deleted"]
    assert server.get(f"/v1/models/{NAME}", key=ORDINARY).status_code == 404
    assert server.transcribe(sample, key=ORDINARY).json()["text"] == SAMPLE_TEXT


@contextmanager
def pulling(server: Running) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a pull, as they come."""
    url, headers = f"{server.base_url}/v1/models/{NAME}", {"authorization": f"Bearer {ADMIN}"}
    with httpx2.stream("POST", url, headers=headers, timeout=100, trust_env=False) as answer:
        yield (
            json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: {")
        )


@pytest.fixture
def held(hub: Hub) -> Iterator[threading.Event]:
    """The hub gives half of the model's largest file until this is set."""
    event = hub.held["model.bin"] = threading.Event()
    yield event
    event.set()
    hub.held.clear()


def test_a_disconnect_breaks_nothing(server: Running, hub: Hub, held: threading.Event) -> None:
    with pulling(server) as events:
        while next(events)["done_bytes"] < 1_000_000:
            pass
    hub.requests.clear()
    held.set()
    server.wait_for_line(f"the pull of {NAME} was cancelled: no client is waiting")
    assert server.get(f"/v1/models/{NAME}", key=ORDINARY).status_code == 404
    assert ask(server, "POST", f"/v1/models/{NAME}?stream=false").json()["state"] == "done"
    (request,) = hub.requests_for("model.bin")
    assert int(request.headers["Range"].removeprefix("bytes=").rstrip("-")) >= 1_000_000
    assert ask(server, "POST", f"/api/ps/{NAME}").json()["state"] == "loaded"
    assert ask(server, "DELETE", f"/v1/models/{NAME}").json()["deleted"]


def test_a_client_that_disconnects_while_waiting_unloads_nothing(server: Running) -> None:
    content = (DATA / "ten_minutes.ogg").read_bytes()
    body, key = form(field("model", "demo"), file(content)), {"Authorization": f"Bearer {ADMIN}"}
    with Connection(server.base_url) as using:
        using.send_head({"Content-Length": str(len(body)), **key})
        using.send(body)
        server.wait_until_busy()
        with Connection(server.base_url) as waiting:
            waiting.send_head({"Content-Length": "0", **key}, method="DELETE", path="/api/ps/demo?wait=true")
        server.wait_for_line(r" 499 .*DELETE /api/ps/demo")
    server.wait_until_idle()
    assert [model["id"] for model in server.get("/api/ps", key=ORDINARY).json()["models"]] == ["demo"]


def test_stop_waits_for_no_hub(
    hub: Hub, held: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    settings = {"models_dir": tmp_path, "admin_keys": ADMIN, "grace_seconds": 0.1}
    with serving(**settings) as server, pulling(server) as events:
        assert next(events)["state"] == "downloading"
        server.ask_to_stop()
        *_, last = events
        assert last["error"]["message"] == "The server is shutting down."
        assert server.process.wait(TIMEOUT_S * 0.8) == 0
    assert not held.is_set()
