"""Pulling a model through the server, from a hub on this machine with the faults that hubs have."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.models import hub as pulling
from server.models import pulls
from server.settings import Settings
from tests.contract.schemas import fits
from tests.support.fakes import FakeEngine, make_media
from tests.support.hub_standin import Hub, Repository, standing_in
from tests.support.model_folders import WHOLE, fill_disk
from tests.support.registries import registry_of, served_model

NAME = "distil-large-v2"  # of the catalog, and not pinned there: any content will do
TINY = "Systran/faster-distil-whisper-large-v2"
FILES = {name: f"{name} ".encode() * 20_000 for name in WHOLE}
SIZE = sum(map(len, FILES.values()))
HALF = len(FILES["model.bin"]) // 2
ADMIN = "admin-key-0123456789abcdefgh"
ORDINARY = "other-key-0123456789abcdefgh"

Json = dict[str, Any]
Make = Callable[..., TestClient]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(pulling, "RETRY_WAIT_S", 0.0)
    monkeypatch.setattr(pulls, "TICK_S", 0.001)
    with standing_in(monkeypatch) as running:
        running.repositories[TINY] = Repository(dict(FILES))
        yield running


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def make(models: Path) -> Iterator[Make]:
    """Clients with the admin key, of servers with these settings."""
    opened: list[TestClient] = []

    def client(**settings: object) -> TestClient:
        registry = registry_of(served_model(FakeEngine(), ("demo",), ("en",)))
        chosen = Settings.model_validate({"models_dir": models, "admin_keys": [ADMIN], **settings})
        app = create_app(chosen, registry, make_media())
        one = TestClient(app, headers={"authorization": f"Bearer {ADMIN}"}, raise_server_exceptions=False)
        opened.append(one.__enter__())
        return one

    yield client
    for one in opened:
        one.__exit__(None, None, None)


@pytest.fixture
def client(make: Make) -> TestClient:
    return make()


def events_of(answer: httpx2.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    blocks = [block for block in answer.text.split("\r\n\r\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    return [json.loads(each) if each.startswith("{") else each for each in data]


def error_of(answer: httpx2.Response) -> Json:
    assert set(answer.json()) == {"error"}
    error: Json = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def pulled(models: Path) -> dict[str, bytes]:
    folder = models / "Systran--faster-distil-whisper-large-v2"
    return {name: (folder / name).read_bytes() for name in WHOLE} if folder.is_dir() else {}


@pytest.mark.parametrize("name", [NAME, "distil-whisper-large-v2", TINY, TINY.replace("/", "%2F")])
def test_a_model_is_pulled_and_events_report_progress(
    name: str, client: TestClient, hub: Hub, models: Path
) -> None:
    *steps, done, end = events_of(client.post(f"/v1/models/{name}"))
    assert end == "[DONE]"
    assert done == {
        "type": "sotto.pull",
        "model": NAME,
        "state": "done",
        "done_bytes": SIZE,
        "total_bytes": SIZE,
    }
    for step in (*steps, done):
        fits(step, None, "PullEvent")
    for step in steps:
        assert (step["type"], step["model"], step["total_bytes"]) == ("sotto.pull", NAME, SIZE)
        assert step["state"] in ("downloading", "verifying")
        assert step["file"] in FILES
    counts = [step["done_bytes"] for step in steps]
    assert counts == sorted(counts)
    assert all(before != after for before, after in pairwise(steps))
    assert pulled(models) == FILES


def test_one_answer_comes_at_the_end_where_no_stream_is_wanted(client: TestClient, hub: Hub, models: Path) -> None:
    answer = client.post(f"/v1/models/{NAME}?stream=false")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json()["state"] == "done"
    assert pulled(models) == FILES
    hub.requests.clear()
    assert client.post(f"/v1/models/{NAME}", params={"stream": "0"}).json() == {
        "type": "sotto.pull",
        "model": NAME,
        "state": "done",
    }
    assert hub.requests == []
    fits(answer.json(), None, "PullEvent")


def test_a_wrong_choice_of_stream_is_refused(client: TestClient, hub: Hub) -> None:
    answer = client.post(f"/v1/models/{NAME}?stream=soon")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")
    assert hub.requests == []


def test_a_repository_that_the_catalog_does_not_know_is_pulled(client: TestClient, hub: Hub, models: Path) -> None:
    hub.repositories["me/Own_Model.v2"] = Repository(dict(FILES))
    assert client.post("/v1/models/me/Own_Model.v2?stream=false").json()["model"] == "me/Own_Model.v2"
    assert (models / "me--Own_Model.v2" / "model.bin").exists()


def test_a_broken_connection_is_resumed_and_an_aborted_pull_continues_later(
    client: TestClient, hub: Hub, models: Path
) -> None:
    hub.cuts["model.bin"] = [HALF] + [0] * 20
    (*_, last) = events_of(client.post(f"/v1/models/{NAME}"))
    assert last["error"]["code"] == "pull_failed"
    assert "the next pull resumes there" in last["error"]["message"]
    assert pulled(models) == {}
    hub.cuts["model.bin"] = [1000]
    hub.requests.clear()
    assert client.post(f"/v1/models/{NAME}?stream=false").status_code == 200
    ranges = [request.headers["Range"] for request in hub.requests_for("model.bin")]
    assert ranges == [f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert pulled(models) == FILES


REFUSALS = {
    "lie": (502, "pull_failed", None, "arrived damaged and was removed"),
    "cut": (502, "pull_failed", None, "broke off at"),
    "down": (502, "pull_failed", None, "answered 503: try again later"),
    "gone": (404, "model_not_found", "model", "does not exist at .*, or is private"),
    "other": (400, "unsuitable_model", "model", "holds no CTranslate2 conversion"),
    "full": (507, "no_room", None, "No space left on device"),
    "too full": (507, "no_room", None, r"needs 68\.2 MB more in .* has 0\.0 MB free"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_each_failure_has_its_own_status(
    fault: str, client: TestClient, hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, code, param, message = REFUSALS[fault]
    hub.lies = {"model.bin"} if fault == "lie" else set()
    hub.cuts = {"model.bin": [HALF] + [0] * 20} if fault == "cut" else {}
    hub.repositories[TINY].info_status = {"gone": 404, "down": 503}.get(fault, 200)
    if fault == "other":
        del hub.repositories[TINY].files["model.bin"]
    with monkeypatch.context() as patch:
        if fault == "full":
            fill_disk(patch, HALF)
        if fault == "too full":
            patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        answer = client.post(f"/v1/models/{NAME}?stream=false")
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert re.search(message, error["message"])
    assert answer.headers["x-should-retry"] == "false"
    assert pulled(models) == {}


def test_errors_before_the_first_event_are_plain_answers(client: TestClient, hub: Hub) -> None:
    answer = client.post("/v1/models/no/such")
    assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")


def test_an_offline_server_refuses_to_download(make: Make, hub: Hub) -> None:
    client = make(offline=True)
    answer = client.post(f"/v1/models/{NAME}")
    assert answer.status_code == 403
    assert "SOTTO_OFFLINE forbids downloading it" in error_of(answer)["message"]
    assert client.post("/v1/models/demo?stream=false").json()["state"] == "done"
    assert hub.requests == []


@pytest.mark.parametrize(
    "name",
    [
        *"%2Fetc ..%2F..%2Fetc a/b/c a%2F.. ..%2Fa/b a%5Cb a/b%00 a/b%0Ac a%20b/c ä/b models ~/x tin".split(),
        *"a/b. a/b..c a--b/c .hidden/x http:%2F%2Fexample.com%2Fa".split(),
        "x" * 97 + "/y",
    ],
)
def test_an_invalid_model_name_is_not_found(name: str, client: TestClient, hub: Hub, models: Path) -> None:
    answer = client.post(f"/v1/models/{name}")
    assert (answer.status_code, error_of(answer)["code"]) in [(404, "model_not_found"), (404, None)]
    assert hub.requests == []
    assert not models.exists()


@pytest.mark.parametrize("value", ["perhaps", "2"])
def test_a_stream_is_true_or_false(value: str, client: TestClient, hub: Hub) -> None:
    answer = client.post(f"/v1/models/{NAME}", params={"stream": value})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "stream")
    assert hub.requests == []


# Keys


@pytest.mark.parametrize(
    ("settings", "key", "status"),
    [
        ({}, ADMIN, 200),
        ({}, "", 401),
        ({}, "wrong", 401),
        ({"api_keys": [ORDINARY]}, ADMIN, 200),
        ({"api_keys": [ORDINARY]}, ORDINARY, 403),
        ({"api_keys": [ORDINARY]}, "", 401),
        ({"api_keys": [ORDINARY]}, "wrong", 401),
        ({"admin_keys": []}, "", 403),
        ({"admin_keys": []}, ADMIN, 403),
        ({"admin_keys": [], "api_keys": [ORDINARY]}, ORDINARY, 403),
        ({"admin_keys": [], "api_keys": [ORDINARY]}, "", 401),
    ],
)
def test_an_admin_key_is_needed(settings: Json, key: str, status: int, make: Make, hub: Hub, models: Path) -> None:
    client = make(**settings)
    answer = client.post(f"/v1/models/{NAME}?stream=false", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == status
    assert bool(pulled(models)) is (status == 200)
    if status != 200:
        assert error_of(answer)["type"] == "invalid_request_error"
        assert hub.requests == []
