"""`x-sotto-model`: which model does the work, whatever id the request has for it."""

from collections.abc import Iterator
from urllib.parse import unquote

import httpx2
import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.errors import Unavailable
from server.options import DecodingOptions
from server.settings import Settings
from server.transcript import Window, WindowResult
from tests.support.bad_inputs import wav
from tests.support.fakes import FakeEngine, default_answer, make_media
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS, serving

AUDIO = wav()
ODD = "org/größe 50%"


def answer(window: Window, options: DecodingOptions) -> WindowResult | Exception:
    return Unavailable("The engine is out.") if options.prompt == "fail" else default_answer(window, options)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    models = [served_model(FakeEngine(answer), (name, f"{name}-alias"), ("en",)) for name in ("first", ODD)]
    with TestClient(create_app(Settings(), registry_of(*models), make_media())) as client:
        yield client


def ask(
    client: TestClient, model: str, audio: bytes, route: str = TRANSCRIPTIONS, **fields: str
) -> httpx2.Response:
    return client.post(route, data={"model": model, **fields}, files={"file": audio})


@pytest.mark.parametrize("model", ["first", "First-Alias", "whisper-1", "gpt-4o-transcribe", "whisper-large-v3"])
@pytest.mark.parametrize("route", [TRANSCRIPTIONS, "/v1/audio/translations"])
@pytest.mark.parametrize(
    "fields", [{}, {"stream": "true"}, {"response_format": "vtt"}], ids=["json", "stream", "vtt"]
)
def test_an_answer_names_the_model_that_did_the_work(
    client: TestClient, model: str, route: str, fields: dict[str, str]
) -> None:
    answered = ask(client, model, AUDIO, route, **fields)
    assert (answered.status_code, answered.headers["x-sotto-model"]) == (200, "first")


def test_a_name_that_no_header_can_hold_is_percent_encoded(client: TestClient) -> None:
    answered = ask(client, ODD, AUDIO)
    assert answered.status_code == 200
    assert answered.headers["x-sotto-model"] == "org/gr%C3%B6%C3%9Fe%2050%25"
    assert unquote(answered.headers["x-sotto-model"]) == ODD


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(
    ("status", "audio", "fields"),
    [
        (400, b"no audio", {}),
        (400, b"", {}),
        (400, AUDIO, {"language": "de"}),
        (503, AUDIO, {"prompt": "fail"}),
    ],
    ids=["undecodable", "empty", "language", "engine"],
)
def test_an_error_names_the_model_once_it_is_known(
    client: TestClient, stream: str, status: int, audio: bytes, fields: dict[str, str]
) -> None:
    answered = ask(client, "first-alias", audio, stream=stream, **fields)
    assert (answered.status_code, answered.headers["x-sotto-model"]) == (status, "first")


@pytest.mark.parametrize(("model", "temperature", "status"), [("none", "0", 404), ("first", "9", 400)])
def test_an_error_before_the_model_is_known_names_no_model(
    client: TestClient, model: str, temperature: str, status: int
) -> None:
    answered = ask(client, model, AUDIO, temperature=temperature)
    assert answered.status_code == status
    assert "x-sotto-model" not in answered.headers


def test_other_answers_name_no_model(client: TestClient) -> None:
    assert "x-sotto-model" not in client.get("/v1/models").headers


def test_ids_of_other_clouds_are_unknown_to_a_server_that_is_set_so() -> None:
    with serving(cloud_model_ids=0) as server:
        refused = server.transcribe("en_00.wav", {"model": "whisper-large-v3"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        assert server.transcribe("en_00.wav").headers["x-sotto-model"] == "demo"
