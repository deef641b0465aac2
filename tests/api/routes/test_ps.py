"""/api/ps and DELETE /v1/models/{id}: looking is for everybody with a key, changing for admin keys."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.openapi.document import describe
from server.errors import ModelUnavailable
from server.models.available import AvailableModels
from server.models.folder_lock import locked
from server.models.known_model import KnownModel
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelPool
from server.pool.registry import Registry
from server.pool.served_model import ServedModel
from server.settings import Settings
from tests.contract.schemas import fits
from tests.support.bad_inputs import DATA
from tests.support.fakes import FakeEngine, make_media, wait_until
from tests.support.model_folders import WHOLE, filled, pulled
from tests.support.registries import served_model
from tests.support.serving import TRANSCRIPTIONS

ADMIN = "admin-key-0123456789abcdefgh"
ORDINARY = "other-key-0123456789abcdefgh"
TINY = "Systran--faster-whisper-tiny"

Json = dict[str, Any]


class Models:
    """Starts fake engines, and keeps them by the model's name; `failing` names can't be loaded."""

    def __init__(self) -> None:
        self.engines: dict[str, FakeEngine] = {}
        self.failing: set[str] = set()

    def start(self, known: KnownModel) -> "Start":
        return Start(self, known)

    def serve(self, known: KnownModel) -> ServedModel:
        engine = self.engines[known.name] = FakeEngine()
        return served_model(engine, known.names, ("en",))


class Start:
    def __init__(self, models: Models, known: KnownModel) -> None:
        self._models, self._known = models, known

    def wait(self) -> ServedModel:
        if self._known.name in self._models.failing:
            raise ModelUnavailable("it fell apart")
        return self._models.serve(self._known)

    def close(self) -> None:
        """Nothing runs."""


@pytest.fixture(autouse=True)
def _the_demo_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than the best model of the models directory, unless a test chooses another."""
    monkeypatch.setenv("SOTTO_MODEL", "demo")


@pytest.fixture
def fakes() -> Models:
    return Models()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The models directory, with one model that the catalog knows and one that it does not."""
    pulled(tmp_path / "models" / TINY, "Systran/faster-whisper-tiny")
    pulled(tmp_path / "models" / "me--own", "me/own")
    return tmp_path / "models"


@pytest.fixture
def client(models: Path, fakes: Models) -> Iterator[TestClient]:
    yield from serving(Settings(models_dir=models, admin_keys=[ADMIN], api_keys=[ORDINARY]), fakes)


def serving(settings: Settings, fakes: Models) -> Iterator[TestClient]:
    inventory = AvailableModels(settings)
    pool = ModelPool(fakes.start, Budget(lambda known: Need(1000, 1000)), refresh=inventory.refresh)
    pool.adopt(inventory.chosen[0], fakes.serve(inventory.chosen[0]), math.inf)
    pool.set_models(inventory.models(), 300.0)
    registry = Registry(pool, source=inventory, on_demand_s=300.0)
    app = create_app(settings, registry, make_media())
    with TestClient(app, headers={"authorization": f"Bearer {ADMIN}"}) as client:
        yield client


def listed(client: TestClient) -> dict[str, Json]:
    answer = client.get("/api/ps", headers={"authorization": f"Bearer {ORDINARY}"})
    fits(answer.json(), None, "RunningModels")
    return {model["id"]: model for model in answer.json()["models"]}


def error_of(answer: httpx2.Response) -> tuple[int, str | None]:
    assert set(answer.json()) == {"error"}
    return answer.status_code, answer.json()["error"]["code"]


def busy(client: TestClient, fakes: Models, name: str) -> Callable[[], httpx2.Response]:
    """Begin a transcription by a model; what is returned ends it and gives its answer."""
    client.post(f"/api/ps/{name}")
    engine = fakes.engines[name]
    engine.held = True
    answers: list[httpx2.Response] = []

    def ask() -> None:
        audio = (DATA / "en_02.wav").read_bytes()
        answers.append(client.post(TRANSCRIPTIONS, data={"model": name}, files={"file": audio}))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: bool(engine.waiting))

    def end() -> httpx2.Response:
        engine.resolve()
        asking.join()
        return answers[0]

    return end


# Looking


def test_loaded_models_are_listed_with_their_requests(client: TestClient, fakes: Models) -> None:
    assert set(listed(client)) == {"demo"}
    end = busy(client, fakes, "tiny")
    tiny = listed(client)["tiny"]
    assert (tiny["state"], tiny["requests"], tiny["queued_windows"]) == ("loaded", 1, 1)
    assert tiny["expires_at"] is None
    end()
    wait_until(lambda: listed(client)["tiny"]["requests"] == 0)
    tiny = listed(client)["tiny"]
    now = client.get("/api/ps").json()["time"]
    assert now - 60 <= tiny["last_used"] <= now
    assert now + 200 <= tiny["expires_at"] <= now + 301
    assert listed(client)["demo"]["expires_at"] is None


def test_a_model_whose_engine_broke_is_still_there_and_says_why(
    client: TestClient, fakes: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/api/ps/tiny")
    broken = replace(fakes.engines["tiny"].stats(), state="broken", reason="it was killed", device="cpu")
    monkeypatch.setattr(fakes.engines["tiny"], "stats", lambda: broken)
    tiny = listed(client)["tiny"]
    assert (tiny["state"], tiny["reason"]) == ("broken", "it was killed")


# Loading and unloading


@pytest.mark.parametrize(
    "name", ["tiny", "TINY", "whisper-tiny", "Systran/faster-whisper-tiny", "me/own", "me%2Fown"]
)
def test_a_model_is_loaded_and_unloaded_by_any_of_its_names(name: str, client: TestClient, fakes: Models) -> None:
    loaded = client.post(f"/api/ps/{name}")
    assert (loaded.status_code, loaded.json()["state"]) == (200, "loaded")
    assert client.post(f"/api/ps/{name}").json()["id"] == loaded.json()["id"]
    assert set(listed(client)) == {"demo", loaded.json()["id"]}
    unloaded = client.delete(f"/api/ps/{name}")
    assert (unloaded.status_code, unloaded.json()["state"]) == (200, "available")
    assert fakes.engines[loaded.json()["id"]].closed
    assert set(listed(client)) == {"demo"}
    assert client.delete(f"/api/ps/{name}").status_code == 200


@pytest.mark.parametrize(("asked", "lower", "upper"), [("60", 50, 61), ("10m", 590, 601)])
def test_load_may_say_how_long_it_stays(asked: str, lower: float, upper: float, client: TestClient) -> None:
    loaded = client.post("/api/ps/tiny", params={"keep_alive": asked}).json()
    assert lower <= loaded["expires_at"] - time.time() <= upper


def test_a_model_that_never_expires_says_so(client: TestClient) -> None:
    assert client.post("/api/ps/tiny", params={"keep_alive": "-1"}).json()["expires_at"] is None


@pytest.mark.parametrize(
    ("method", "query", "param"), [("POST", "keep_alive=soon", "keep_alive"), ("DELETE", "wait=soon", "wait")]
)
def test_an_invalid_query_is_refused(method: str, query: str, param: str, client: TestClient) -> None:
    answer = client.request(method, f"/api/ps/tiny?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_model_in_use_is_unloaded_only_after_a_wait(client: TestClient, fakes: Models) -> None:
    end = busy(client, fakes, "tiny")
    assert error_of(client.delete("/api/ps/tiny")) == (409, "model_busy")
    answers: list[httpx2.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(client.delete("/api/ps/tiny?wait=true")))
    waiting.start()
    assert end().json()["text"] == "w0"
    waiting.join()
    assert answers[0].json()["state"] == "available"
    assert set(listed(client)) == {"demo"}


def test_a_model_that_can_not_be_loaded_says_why(client: TestClient, fakes: Models) -> None:
    fakes.failing.add("tiny")
    answer = client.post("/api/ps/tiny")
    assert error_of(answer) == (503, "model_broken")
    assert "it fell apart" in answer.json()["error"]["message"]
    fakes.failing.clear()
    assert client.post("/api/ps/tiny").json()["state"] == "loaded"


# Deleting


@pytest.mark.parametrize(
    "name", ["tiny", "Systran/faster-whisper-tiny", "Systran%2Ffaster-whisper-tiny", "Whisper-Tiny"]
)
@pytest.mark.parametrize("loaded", [True, False])
def test_a_deleted_model_is_gone(name: str, loaded: bool, client: TestClient, models: Path, fakes: Models) -> None:
    if loaded:
        client.post("/api/ps/tiny")
    answer = client.delete(f"/v1/models/{name}")
    assert answer.json() == {"id": name.replace("%2F", "/"), "object": "model", "deleted": True}
    fits(answer.json(), "DeleteModelResponse", "DeletedModel")
    assert sorted(path.name for path in models.iterdir() if not path.name.startswith(".")) == ["me--own"]
    assert error_of(client.get("/v1/models/tiny")) == (404, "model_not_found")
    assert error_of(client.delete("/v1/models/tiny")) == (404, "model_not_found")
    assert not loaded or fakes.engines["tiny"].closed
    assert client.get("/v1/models/me/own").status_code == 200


def test_a_model_in_use_is_not_deleted(client: TestClient, models: Path, fakes: Models) -> None:
    end = busy(client, fakes, "tiny")
    assert error_of(client.delete("/v1/models/tiny")) == (409, "model_busy")
    assert end().json()["text"] == "w0"
    assert (models / TINY / "model.bin").exists()


def test_a_model_that_is_being_written_is_not_deleted(client: TestClient, models: Path) -> None:
    with locked(models / TINY):
        assert error_of(client.delete("/v1/models/tiny")) == (409, "model_busy")
    assert client.delete("/v1/models/tiny").json()["deleted"]


@pytest.mark.parametrize("name", ["demo", "whisper-1", "gpt-4o-transcribe"])
def test_the_default_model_is_not_deleted(name: str, client: TestClient) -> None:
    answer = client.delete(f"/v1/models/{name}")
    assert error_of(answer) == (403, "permission_denied")
    assert "default model" in answer.json()["error"]["message"]
    assert client.post("/api/ps/demo").json()["state"] == "loaded"


@pytest.mark.parametrize("chosen", ["path", "preloaded", "bundled"])
def test_model_elsewhere_is_not_deleted(chosen: str, tmp_path: Path, models: Path, fakes: Models) -> None:
    elsewhere = filled(tmp_path / "elsewhere" / "mine", *WHOLE)
    settings = Settings(models_dir=models, admin_keys=[ADMIN], **OTHERS[chosen](elsewhere))
    for client in serving(settings, fakes):
        name = "demo" if chosen == "bundled" else "mine"
        client.post(f"/api/ps/{name}")
        assert error_of(client.delete(f"/v1/models/{name}")) == (403, "permission_denied")
        assert name in listed(client)  # not unloaded for nothing
    assert (elsewhere / "model.bin").exists()


OTHERS: dict[str, Callable[[Path], Json]] = {
    "path": lambda elsewhere: {"model": str(elsewhere)},
    "preloaded": lambda elsewhere: {"preload": [str(elsewhere)]},
    "bundled": lambda elsewhere: {"model": "tiny"},
}


def test_a_link_is_deleted_but_not_its_target(tmp_path: Path, models: Path, fakes: Models) -> None:
    elsewhere = filled(tmp_path / "elsewhere", *WHOLE)
    (models / "linked").symlink_to(elsewhere)
    for client in serving(Settings(models_dir=models, admin_keys=[ADMIN]), fakes):
        assert client.delete("/v1/models/linked").json()["deleted"]
    assert not (models / "linked").is_symlink()
    assert (elsewhere / "model.bin").exists()


def test_models_directory_may_be_a_link(tmp_path: Path, models: Path, fakes: Models) -> None:
    (tmp_path / "link").symlink_to(models)
    for client in serving(Settings(models_dir=tmp_path / "link", admin_keys=[ADMIN]), fakes):
        assert client.delete("/v1/models/tiny").json()["deleted"]
    assert not (models / TINY).exists()


# Names and keys


@pytest.mark.parametrize("name", ["none", "org/none", "..%2Fmodels", "%2Fetc", "base", "me--own%2F..%2F", "%00"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/ps"), ("DELETE", "/api/ps"), ("DELETE", "/v1/models")])
def test_a_model_that_is_not_installed_is_not_found(
    name: str, method: str, path: str, client: TestClient, models: Path
) -> None:
    assert error_of(client.request(method, f"{path}/{name}")) == (404, "model_not_found")
    assert len(list(models.glob("*/model.bin"))) == 2


@pytest.mark.parametrize(
    ("settings", "key", "status"),
    [
        ({}, "", 401),
        ({}, "wrong", 401),
        ({"api_keys": [ORDINARY]}, ORDINARY, 403),
        ({"api_keys": [ORDINARY]}, "", 401),
        ({"api_keys": [ORDINARY]}, "wrong", 401),
        ({"admin_keys": []}, ADMIN, 403),
        ({"admin_keys": [], "api_keys": [ORDINARY]}, ORDINARY, 403),
        ({"admin_keys": [], "api_keys": [ORDINARY]}, ADMIN, 401),
    ],
)
def test_every_changing_route_takes_an_admin_key(
    settings: Json, key: str, status: int, models: Path, fakes: Models
) -> None:
    changing = [
        (method, path.replace("{model}", "tiny"))
        for path, methods in describe()["paths"].items()
        for method in methods
        if method != "get" and "/audio/" not in path
    ]
    assert len(changing) == 4
    for client in serving(
        Settings.model_validate({"models_dir": models, "admin_keys": [ADMIN], **settings}), fakes
    ):
        for method, path in changing:
            answer = client.request(method, path, headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == status, path
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert [*fakes.engines] == ["demo"]
    assert (models / TINY).exists()
