import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.routes import models
from server.keep_alive import FOREVER
from server.models.installed import InstalledModel, remove
from server.models.known_model import KnownModel
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelPool
from server.pool.registry import Registry
from server.settings import Settings
from tests.conftest import DEMO
from tests.support.fakes import FakeEngine, make_media, wait_until
from tests.support.launches import Engines
from tests.support.registries import registry_of, served_model

IDS = ["demo", "whisper-demo", "org/large v3", "whisper-1"]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    demo = served_model(FakeEngine(), ("demo", "whisper-demo"), ("en", "de"), created=1_700_000_000)
    large = served_model(FakeEngine(), ("org/large v3",), ("en", "de"), created=1_700_000_000)
    with TestClient(create_app(Settings(), registry_of(demo, large), make_media())) as client:
        yield client


def entry(name: str) -> dict[str, object]:
    model = {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "sotto"}
    root = name if name == "org/large v3" else "demo"
    return {**model, "root": root, "state": "loaded", "size": 0, "languages": ["en", "de"]}


def test_the_list_has_every_name_and_those_of_the_cloud(client: TestClient) -> None:
    expected = [entry(name) for name in IDS]
    for each in expected:
        if each["id"] != each["root"]:
            del each["languages"]
    assert client.get("/v1/models").json() == {"object": "list", "data": expected}


def test_the_list_has_the_languages_of_a_model_once(client: TestClient) -> None:
    listed = client.get("/v1/models")
    with_languages = [each["id"] for each in listed.json()["data"] if "languages" in each]
    assert with_languages == ["demo", "org/large v3"]
    assert listed.text.count('\n      "languages": ["en", "de"]\n') == 2


@pytest.mark.parametrize("default", ["demo", "own"])
def test_demo_says_that_it_is_one_and_is_listed_only_as_the_default(default: str) -> None:
    pool = ModelPool(Engines().start, Budget(lambda _: Need(0, 0)))
    for name in sorted(("demo", "own"), key=lambda name: name != default):
        served = served_model(FakeEngine(), (name,), ("en",))
        pool.adopt(replace(served.known, demo=name == "demo"), served, FOREVER)
    with TestClient(create_app(Settings(), Registry(pool), make_media())) as client:
        listed = {each["id"]: each.get("demo") for each in client.get("/v1/models").json()["data"]}
        assert client.get("/v1/models/demo").json()["demo"] is True
    demos = {"demo": True, "own": None, "whisper-1": True}
    assert listed == (demos if default == "demo" else {"own": None, "whisper-1": None})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("demo", "demo"),
        ("whisper-demo", "whisper-demo"),
        ("whisper-1", "whisper-1"),
        ("gpt-4o-transcribe", "gpt-4o-transcribe"),
        ("openai/whisper-large-v3", "openai/whisper-large-v3"),
        ("org/large%20v3", "org/large v3"),
        ("org%2Flarge%20v3", "org/large v3"),
    ],
)
def test_a_model_is_found_by_any_of_its_names(client: TestClient, path: str, name: str) -> None:
    assert client.get(f"/v1/models/{path}").json() == entry(name)


@pytest.mark.parametrize("path", ["", "/demo"])
def test_models_are_written_as_openai_writes_them(client: TestClient, path: str) -> None:
    answer = client.get(f"/v1/models{path}")
    indented = json.dumps(answer.json(), indent=2)
    assert answer.text == re.sub(r'\[\s*"en",\s*"de"\s*\]', '["en", "de"]', indented)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["demo", "whisper-1", "org/large%20v3", "org%2Flarge%20v3"])
def test_delete_without_an_admin_key_is_refused_and_changes_nothing(client: TestClient, path: str) -> None:
    answer = client.delete(f"/v1/models/{path}")
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, "permission_denied")
    assert "deleting models needs an admin key" in error["message"]
    assert client.get(f"/v1/models/{path}").status_code == 200


def test_a_model_of_a_cloud_s_id_is_not_there_to_be_deleted() -> None:
    admin = {"authorization": "Bearer admin"}
    registry = registry_of(served_model(FakeEngine(), ("demo",), ("en",)))
    settings = Settings.model_validate({"admin_keys": ["admin"]})
    with TestClient(create_app(settings, registry, make_media())) as client:
        assert client.delete("/v1/models/whisper-large-v3", headers=admin).status_code == 404
        assert client.delete("/v1/models/demo", headers=admin).status_code == 403


class Folders:
    """The models of a folder, each known by its folder's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def models(self) -> list[KnownModel]:
        return [KnownModel((path.name,), path) for path in self._folder.iterdir() if not path.name.startswith(".")]

    def stamp(self) -> object:
        return sorted(self._folder.iterdir())


def test_a_request_during_a_deletion_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "own"):
        shutil.copytree(DEMO, tmp_path / name)
    engines, admin = Engines(), {"authorization": "Bearer admin"}
    pool = ModelPool(engines.start, Budget(lambda _: Need(0, 0)))
    first = served_model(FakeEngine(), ("first",), ("en",))
    pool.adopt(replace(first.known, folder=tmp_path / "first"), first, FOREVER)
    registry = Registry(pool, source=Folders(tmp_path))
    settings = Settings.model_validate({"admin_keys": ["admin"], "models_dir": tmp_path})
    answers: list[int] = []
    with TestClient(create_app(settings, registry, make_media())) as client:

        def removed_slowly(files: InstalledModel) -> None:
            answers.append(client.post("/api/ps/own", headers=admin).status_code)
            remove(files)

        monkeypatch.setattr(models, "remove", removed_slowly)
        wait_until(lambda: client.post("/api/ps/own", headers=admin).status_code == 200)
        assert client.delete("/v1/models/own", headers=admin).json()["deleted"]
        assert answers == [404]
        assert engines.started == ["own"]
        assert client.get("/v1/models/own").status_code == 404
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["first"]


@pytest.mark.parametrize("path", ["none", "org%2Fnone", "org/none", "../demo", "%00", "%20", "x" * 2_000])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_model_is_not_found(client: TestClient, path: str, method: str) -> None:
    answer = client.request(method, f"/v1/models/{path}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    if error["code"]:  # the client itself may have resolved `..`
        assert (error["type"], error["param"], error["code"]) == (
            "invalid_request_error",
            "model",
            "model_not_found",
        )
        assert error["message"].startswith("The model '")
        assert "' does not exist" in error["message"]
    assert len(answer.content) < 600


def test_sdk_is_refused_to_delete(sdk: OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        sdk.models.delete("demo")


def test_sdk_lists_and_retrieves(sdk: OpenAI) -> None:
    names = [model.id for model in sdk.models.list()]
    assert {"demo", "whisper-1"} <= set(names)
    assert [sdk.models.retrieve(name).id for name in names] == names


@pytest.mark.parametrize("name", ["none", "org/none", "org/a name"])
def test_sdk_raises_for_an_unknown_model(sdk: OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve(name)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    assert f"The model '{name}' does not exist" in caught.value.message
