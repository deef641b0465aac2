from collections.abc import Iterator

import httpx2
import pytest
from openai import AzureOpenAI, DefaultHttpxClient
from starlette.testclient import TestClient

from server.api.app import create_app
from server.settings import Settings
from tests.support.bad_inputs import DATA, wav
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS, Running
from tests.support.wire import Connection, content_type, field, file, form

ORIGIN = "http://testserver"
DEPLOYMENTS = "/openai/deployments"
MODEL = field("model", "whisper-1")
AUDIO = file(wav())


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    served = served_model(FakeEngine(), ("demo", "org/demo"), ("en",))
    with TestClient(create_app(Settings(), registry_of(served), make_media())) as client:
        yield client


def post(client: TestClient, path: str, *parts: bytes) -> httpx2.Response:
    return client.post(f"{ORIGIN}{path}", content=form(*parts), headers={"content-type": content_type()})


def message_of(answer: httpx2.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", None)
    return str(error["message"])


# Other addresses of the same routes.


@pytest.mark.parametrize(
    "path",
    [
        TRANSCRIPTIONS,
        "/audio/transcriptions",
        "/openai/v1/audio/transcriptions",
        "/openai/audio/transcriptions",
        "//v1/audio/transcriptions",
        "/v1//audio///transcriptions",
        "/v1/audio/transcriptions/",
        "//audio/transcriptions//",
        "/v1/audio/transcriptions?api-version=2024-06-01",
    ],
)
def test_a_recording_is_taken_at_every_address(client: TestClient, path: str) -> None:
    assert post(client, path, MODEL, AUDIO).json()["text"] == "w0"


@pytest.mark.parametrize("prefix", ["", "/openai", "/openai/v1", "//v1"])
@pytest.mark.parametrize("rest", ["/models", "/models/", "/models/demo", "/models/org/demo", "/models/org%2Fdemo"])
def test_models_are_listed_at_every_address(client: TestClient, prefix: str, rest: str) -> None:
    answer = client.get(f"{ORIGIN}{prefix}{rest}")
    assert answer.status_code == 200
    assert answer.json() == client.get(f"/v1{rest}").json()


def test_nothing_is_redirected(client: TestClient) -> None:
    answer = client.get("/health/", follow_redirects=False)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_head_has_what_get_has_without_the_body(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({}, method="HEAD", path="/v1/models")
        connection.send_head({}, method="GET", path="/v1/models")
        received = b""
        while received.count(b"whisper-1") < 1:
            received += connection.socket.recv(1 << 16)
    head, get = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    length = len(get.partition(b"\r\n\r\n")[2])
    assert b"content-length: %d\r\n" % length in head
    assert head.endswith(b"\r\n\r\n")


# Azure's clients name the model in the path.


@pytest.mark.parametrize("model", ["demo", "whisper-1", "org%2Fdemo", "org/demo", "gpt-4o-transcribe"])
def test_a_model_may_be_in_the_path(client: TestClient, model: str) -> None:
    answer = post(client, f"{DEPLOYMENTS}/{model}/audio/transcriptions?api-version=2024-06-01", AUDIO)
    assert answer.json()["text"] == "w0"


def test_a_model_of_the_form_counts_before_the_path_s(client: TestClient) -> None:
    path = f"{DEPLOYMENTS}/my-deployment/audio/transcriptions"
    assert post(client, path, AUDIO, MODEL).status_code == 200
    assert post(client, path, AUDIO, field("model", "")).status_code == 404


def test_an_unknown_deployment_is_an_error(client: TestClient) -> None:
    error = post(client, f"{DEPLOYMENTS}/mine/audio/transcriptions", AUDIO).json()["error"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert error["message"].startswith("The model 'mine' does not exist")
    assert "whisper-1" in error["message"]


@pytest.mark.parametrize("deployment", ["whisper-1", None])
def test_azure_s_client_works_unchanged(server: Running, deployment: str | None) -> None:
    with AzureOpenAI(
        azure_endpoint=server.base_url,
        azure_deployment=deployment,
        api_version="2025-03-01-preview",
        api_key="sk-x",
        max_retries=0,
        http_client=DefaultHttpxClient(trust_env=False),
    ) as client:
        recording = DATA / "en_02.wav"
        answer = client.audio.transcriptions.create(model="whisper-1", file=recording)
        assert answer.text == "The party ends at eight."
        assert "whisper-1" in [model.id for model in client.models.list()]


# Addresses that lead nowhere.


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/audio/transcriptions", TRANSCRIPTIONS),
        ("/v1/audio/transcriptions/audio/transcriptions", TRANSCRIPTIONS),
        ("/v1/audio/transcriptions/models", "/v1/models"),
        ("/v1/audio/transcriptions/v1/audio/transcriptions", TRANSCRIPTIONS),
        ("/v1/audio/translations/audio/transcriptions", TRANSCRIPTIONS),
        ("/api/v1/audio/transcriptions", TRANSCRIPTIONS),
        ("/V1/Audio/Transcriptions", TRANSCRIPTIONS),
        ("/v1/audio/transcription", TRANSCRIPTIONS),
        ("/v1/transcriptions", TRANSCRIPTIONS),
        ("/v1/v1/models", "/v1/models"),
        ("/v1/model", "/v1/models"),
        ("/v1/health", "/health"),
    ],
)
def test_a_wrong_path_gets_the_right_one_suggested(client: TestClient, path: str, meant: str) -> None:
    message = message_of(post(client, path, MODEL, AUDIO), 404)
    assert message.startswith(f"Invalid URL (POST {path}). Did you mean {meant}? ")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/audio/speech",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/images/generations",
        "/v1/realtime/sessions",
    ],
)
def test_unsupported_endpoints_say_so(client: TestClient, path: str) -> None:
    message = message_of(client.post(path, json={"model": "x"}), 404)
    assert message.startswith(f"Invalid URL (POST {path}). This server only transcribes speech. It has ")
    assert f"POST {TRANSCRIPTIONS}" in message


@pytest.mark.parametrize(
    "path", ["/%ff", "/%zz", "/v1/%", "/%2e%2e/x", "/%0d%0aInjected:%20yes", "/" + "x" * 8_000]
)
def test_an_odd_path_is_shown_as_it_was_written(server: Running, path: str) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": "0"}, path=path)
        answer = connection.answer()
    assert answer.status == 404
    assert answer.json()["error"]["message"].startswith(f"Invalid URL (POST {path[:150]}")
    assert len(answer.body) < 1000


@pytest.mark.parametrize("target", ["*", "http://127.0.0.1/v1/models", "v1/models", "/v1/models#x", "?x"])
@pytest.mark.parametrize("method", ["OPTIONS", "BREW", "PUT"])
def test_odd_target_or_method_is_answered_in_the_envelope(server: Running, method: str, target: str) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({}, method=method, path=target)
        answer = connection.answer()
    assert answer.status in {400, 404, 405}
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/v1/audio/transcriptions"])
def test_a_body_sent_to_an_unknown_path_is_not_read(server: Running, path: str) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(512 << 20)}, path=path)
        connection.send(bytes(1 << 20))
        answer = connection.answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert connection.socket.recv(1) == b""
