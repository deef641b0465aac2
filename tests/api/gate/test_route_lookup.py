"""The gate and the router agree on every path: what one takes for a route, the other does."""

import re
import time
from collections.abc import Iterator

import pytest
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.gate.gate import Gate
from server.api.paths import METRICS, TRANSCRIBING, suggestion
from server.settings import Settings
from tests.support.bad_inputs import wav
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model
from tests.support.wire import content_type, field, file, form

CONTROL_CHARACTERS = ("%00", "%0A", "%0B", "%0D", "%7F", "%C2%85")
FORM = form(field("model", "whisper-1"), file(wav()))
HEADERS = {"content-type": content_type()}


@pytest.fixture(scope="module")
def gate() -> Gate:
    settings = Settings(metrics_key=SecretStr("only-for-metrics"))
    return create_app(settings, registry_of(served_model(FakeEngine())), make_media())


@pytest.fixture(scope="module")
def client(gate: Gate) -> Iterator[TestClient]:
    with TestClient(gate, raise_server_exceptions=False) as client:
        yield client


def addresses(gate: Gate) -> list[tuple[str, str]]:
    """Method and path of every route, with a model's name where one belongs."""
    return sorted(
        (method, re.sub(r"\{.*?\}", "demo", context.path or ""))
        for context in iter_route_contexts(gate.wrapped.routes)
        for method in context.methods or ()
    )


def with_character(path: str, character: str) -> list[str]:
    middle = len(path) // 2 + 1
    return [f"/{character}{path[1:]}", f"{path[:middle]}{character}{path[middle:]}", f"{path}{character}"]


def test_no_route_is_reached_through_a_control_character(gate: Gate, client: TestClient) -> None:
    every = addresses(gate)
    assert {("GET", METRICS), ("GET", "/"), ("POST", "/api/ps/demo"), ("DELETE", "/v1/models/demo")} <= set(every)
    assert {path for _, path in every} >= TRANSCRIBING
    for method, path in every:
        for character in CONTROL_CHARACTERS:
            for odd in with_character(path, character):
                answer = client.request(method, odd, content=FORM if method == "POST" else None, headers=HEADERS)
                assert answer.status_code == 404, (method, odd)
                if method != "HEAD":
                    message = answer.json()["error"]["message"]
                    assert message.startswith(f"Invalid URL ({method} {odd}"[:150])
                    assert "control characters" in message


@pytest.mark.parametrize("path", ["/metrics", "//metrics/", "/metrics?x=%0A"])
def test_key_of_the_metrics_is_asked_for_however_their_path_is_written(client: TestClient, path: str) -> None:
    assert client.get(f"http://testserver{path}").status_code == 401
    headers = {"authorization": "Bearer only-for-metrics"}
    assert client.get(f"http://testserver{path}", headers=headers).status_code == 200


def test_transcription_that_was_not_admitted_is_refused(gate: Gate) -> None:
    """Were a request to pass the gate as another one, no limit would hold for it."""
    with TestClient(gate.wrapped, raise_server_exceptions=False) as behind_the_gate:
        for path in sorted(TRANSCRIBING):
            answer = behind_the_gate.post(path, content=FORM, headers=HEADERS)
            assert answer.status_code == 404
            assert "not admitted" in answer.json()["error"]["message"]


def test_suggestion_for_a_long_path_takes_no_time() -> None:
    """Each of many endpoints in a path once was a start from which all the rest was searched in vain."""
    began = time.process_time()
    assert suggestion("/x" + "/models/a" * 20_000 + "\n", []) is not None
    assert time.process_time() - began < 10
