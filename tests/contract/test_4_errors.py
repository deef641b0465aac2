"""Contract, section 4: what is answered when something is wrong, row by row of its table."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from server.api.app import create_app
from server.settings import Settings
from tests.contract.schemas import fits
from tests.support import wire
from tests.support.bad_inputs import wav
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model

KEY = "sk-0123456789abcdefghijklmnop"
TRANSCRIPTIONS, TRANSLATIONS = "/v1/audio/transcriptions", "/v1/audio/translations"
MODEL, AUDIO = wire.field("model", "whisper-1"), wire.file(wav())
INVALID = "invalid_request_error"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    settings = Settings(api_keys=(SecretStr(KEY),), max_upload_mb=1)
    served = served_model(FakeEngine(), ("demo",), ("en", "de"))
    app = create_app(settings, registry_of(served), make_media(max_audio_s=30))
    with TestClient(app, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


@dataclass(frozen=True)
class Row:
    """What is sent, and what must come back; `message` is how it begins."""

    condition: str
    status: int
    message: str
    param: str | None = None
    code: str | None = None
    type: str = INVALID
    parts: tuple[bytes, ...] = (MODEL, AUDIO)
    headers: dict[str, str] = field(default_factory=dict)


def with_field(name: str, value: str) -> tuple[bytes, ...]:
    return (MODEL, wire.field(name, value), AUDIO)


ROWS = (
    Row("no key", 401, "You didn't provide an API key. You need to provide", headers={"authorization": ""}),
    Row(
        "wrong key",
        401,
        "Incorrect API key provided: sk-wrong***mnop.",
        code="invalid_api_key",
        headers={"authorization": "Bearer sk-wrong-9abcdefghijklmnop"},
    ),
    Row(
        "no file",
        400,
        "1 validation error for Request\nbody -> file\n  field required (type=value_error.missing)",
        parts=(MODEL,),
    ),
    Row("file as text", 400, "'file' must be", "file", "invalid_value", parts=(MODEL, wire.field("file", "x"))),
    Row("no model", 400, "you must provide a model parameter", parts=(AUDIO,)),
    Row(
        "unknown model",
        404,
        "The model 'x' does not exist",
        "model",
        "model_not_found",
        parts=(wire.field("model", "x"), AUDIO),
    ),
    Row(
        "undecodable",
        400,
        "The audio file could not be decoded or its format is not supported.",
        "file",
        "invalid_value",
        parts=(MODEL, wire.file(b"no sound")),
    ),
    Row(
        "empty file",
        400,
        "The audio file could not be decoded or its format is not supported.",
        "file",
        "invalid_value",
        parts=(MODEL, wire.file(b"")),
    ),
    Row(
        "shorter than 0.1 s",
        400,
        "Audio file is too short. Minimum audio length is 0.1 seconds.",
        "file",
        "audio_too_short",
        parts=(MODEL, wire.file(wav(bytes(20)))),
    ),
    Row(
        "too large a body",
        413,
        "Maximum content size limit (1048576) exceeded (",
        type="server_error",
        parts=(MODEL, wire.file(bytes(1 << 20))),
    ),
    Row(
        "too long a recording",
        400,
        "audio duration is longer than 30 seconds which is the maximum for this model",
        code="invalid_value",
        parts=(MODEL, wire.file(wav(bytes(31 * 32_000)))),
    ),
    Row(
        "bad language",
        400,
        "Invalid language 'xx'. Language parameter must be specified in ISO-639-1 format.",
        "language",
        "invalid_language_format",
        parts=with_field("language", "xx"),
    ),
    Row(
        "unfit format",
        400,
        "response_format 'diarized_json' is not compatible with model 'whisper-1'",
        "response_format",
        "unsupported_value",
        parts=with_field("response_format", "diarized_json"),
    ),
    Row(
        "unknown format",
        400,
        "'response_format' must be",
        "response_format",
        "invalid_value",
        parts=with_field("response_format", "xml"),
    ),
    Row(
        "temperature out of range",
        400,
        "'temperature' must be",
        "temperature",
        "invalid_value",
        parts=with_field("temperature", "1.5"),
    ),
    Row(
        "temperature that is no number",
        400,
        "'temperature' must be",
        "temperature",
        "invalid_value",
        parts=with_field("temperature", "warm"),
    ),
    Row(
        "prompt that is no text",
        400,
        "'prompt' must be text",
        "prompt",
        "invalid_value",
        parts=(MODEL, wire.part('name="prompt"; filename="x"', "x"), AUDIO),
    ),
    Row("body that can't be parsed", 400, "Could not parse multipart form", parts=(b"no part",)),
    Row(
        "JSON body",
        400,
        "Invalid Content-Type header (application/json), expected multipart/form-data. (HINT: ",
        headers={"content-type": "application/json"},
    ),
)


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, TRANSLATIONS])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.condition)
def test_an_error_matches_the_contract(client: TestClient, row: Row, path: str) -> None:
    headers = {"content-type": wire.content_type(), **row.headers}
    answer = client.post(path, content=wire.form(*row.parts), headers=headers)
    assert answer.status_code == row.status
    error = envelope(answer)
    assert error["message"].startswith(row.message)
    assert (error["type"], error["param"], error["code"]) == (row.type, row.param, row.code)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/chat/completions", 404),
        ("POST", "/v1/audio/speech", 404),
        ("POST", "/v1/responses", 404),
        ("GET", TRANSCRIPTIONS, 405),
        ("POST", "/v1/models", 405),
    ],
)
def test_errors_of_the_framework_are_in_the_envelope(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    error = envelope(answer)
    assert (error["type"], error["param"], error["code"]) == (INVALID, None, None)


def envelope(answer: httpx2.Response) -> dict[str, Any]:
    """The error of an answer, which must be by the schema and nothing else, and JSON."""
    assert answer.headers["content-type"] == "application/json"
    fits(answer.json(), "ErrorResponse", "ErrorResponse")
    error = answer.json()["error"]
    assert isinstance(error, dict)
    return error
