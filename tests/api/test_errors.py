from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.errors import add_handlers
from server.options import DecodingOptions
from server.settings import Settings
from server.transcript import Window, WindowResult
from tests.support.bad_inputs import wav
from tests.support.fakes import FakeEngine, default_answer, make_media
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS
from tests.support.wire import content_type, field, file, form, part

AUDIO = wav()
MODEL = field("model", "whisper-1")
CAUSE = "what only the log may tell"


def break_down(window: Window, options: DecodingOptions) -> WindowResult | Exception:
    """Fails for one prompt, as a fault in the model would."""
    return RuntimeError(CAUSE) if options.prompt == "break" else default_answer(window, options)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    served = served_model(FakeEngine(break_down), ("demo", "org/demo"), ("en", "de"))
    with TestClient(
        create_app(Settings(), registry_of(served), make_media()), raise_server_exceptions=False
    ) as client:
        yield client


def error_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """What the envelope of an answer holds; it must be whole, and hold nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-should-retry"] == "false"  # none of these is cured by asking again
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert "Traceback" not in answer.text
    assert isinstance(error, dict)
    return error


def post(client: TestClient, *parts: bytes, **headers: str) -> httpx2.Response:
    return client.post(TRANSCRIPTIONS, content=form(*parts), headers={"content-type": content_type(), **headers})


def test_a_good_form_is_answered(client: TestClient) -> None:
    assert post(client, MODEL, file(AUDIO)).json()["text"] == "w0"


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/audio", "/redoc", "/v2/x", "/%00"])
def test_an_unknown_path_gets_the_list_of_paths(client: TestClient, path: str) -> None:
    error = error_of(client.get(path), 404)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    assert error["message"].startswith("Invalid URL (GET /")
    assert "POST /v1/audio/transcriptions" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", TRANSCRIPTIONS, "POST"),
        ("PUT", TRANSCRIPTIONS, "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/health", "GET"),
        ("PUT", "/v1/models/owner/name", "GET, DELETE, POST"),
        ("GET", "/api/ps/demo", "POST, DELETE"),
        ("POST", "/docs", "GET"),
    ],
)
def test_a_wrong_method_gets_the_allowed_ones(client: TestClient, method: str, path: str, allow: str) -> None:
    answer = client.request(method, path)
    error = error_of(answer, 405)
    assert answer.headers["allow"] == allow
    assert error["message"].startswith(f"Not allowed to {method} {path}.")


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ("application/json", b'{"model": "whisper-1", "file": "x"}'),
        ("application/x-www-form-urlencoded", b"model=whisper-1&file=x"),
        ("audio/wav", AUDIO),
        ("multipart/mixed; boundary=x", form(MODEL)),
        ("", form(MODEL)),
        ("text/" + "x" * 5_000, b"x"),
    ],
)
def test_a_body_that_is_no_form_is_named_as_the_error(client: TestClient, given: str, body: bytes) -> None:
    answer = client.post(TRANSCRIPTIONS, content=body, headers={"content-type": given})
    error = error_of(answer, 400)
    assert error["message"].startswith(f"Invalid Content-Type header ({given[:100] or 'none'})")
    assert "expected multipart/form-data. (HINT: " in error["message"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


WHOLE = form(MODEL, file(AUDIO))


@pytest.mark.parametrize(
    ("given", "body"),
    [
        pytest.param("multipart/form-data", WHOLE, id="no boundary"),
        pytest.param("multipart/form-data; boundary=", WHOLE, id="empty boundary"),
        pytest.param(content_type("another"), WHOLE, id="another boundary"),
        pytest.param(content_type("x" * 300), form(MODEL, file(AUDIO), boundary="x" * 300), id="long boundary"),
        pytest.param(content_type(), AUDIO, id="no form at all"),
        pytest.param(content_type(), form(MODEL, file(AUDIO)).replace(b"; name=", b"; nome="), id="no names"),
        pytest.param(content_type(), form(b"no headers"), id="no headers"),
        pytest.param(content_type(), form(*[MODEL] * 1_001, file(AUDIO)), id="too many fields"),
        pytest.param(content_type(), form(*[file(b"x")] * 9, MODEL), id="too many files"),
        pytest.param(content_type(), form(MODEL, field("prompt", "x" * (16 << 20) + "x")), id="too long a field"),
        pytest.param(content_type(), form(MODEL, *[field("x", "x" * (6 << 20))] * 3), id="too much text"),
        pytest.param(content_type(), WHOLE[:20_000], id="cut off inside the file"),
        pytest.param(content_type(), WHOLE[:-20], id="cut off inside the last boundary"),
        pytest.param(content_type(), b"", id="empty body"),
        pytest.param(f"{content_type()}; charset=punycode", WHOLE, id="slow charset"),
    ],
)
def test_a_form_that_cannot_be_parsed_is_an_error(client: TestClient, given: str, body: bytes) -> None:
    answer = client.post(TRANSCRIPTIONS, content=body, headers={"content-type": given})
    error = error_of(answer, 400)
    assert error["message"].startswith("Could not parse multipart form")
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "none-such", "rot13", "base64", "utf-7"])
def test_a_charset_of_a_form_is_never_a_fault(client: TestClient, charset: str) -> None:
    given = f"{content_type()}; charset={charset}"
    answer = post(client, field("prompt", "Füße"), MODEL, file(AUDIO), **{"content-type": given})
    assert answer.status_code in {200, 400, 404}


@pytest.mark.parametrize(
    ("parts", "status", "param", "code", "message"),
    [
        ([MODEL], 400, None, None, "field required"),
        ([], 400, None, None, "you must provide a model parameter"),
        ([MODEL, field("file", "sound")], 400, "file", "invalid_value", "must be an uploaded file"),
        ([file(AUDIO)], 400, None, None, "you must provide a model parameter"),
        ([file(AUDIO), field("model", "none")], 404, "model", "model_not_found", "The model 'none' does not exist"),
        ([file(AUDIO), field("model", "../demo")], 404, "model", "model_not_found", "The model '../demo' does not"),
        ([MODEL, file(b"")], 400, "file", "invalid_value", "could not be decoded"),
        ([MODEL, file(wav(bytes(20)))], 400, "file", "audio_too_short", "Minimum audio length is 0.1 seconds"),
    ],
)
def test_a_missing_or_invalid_field_is_named(
    client: TestClient, parts: list[bytes], status: int, param: str | None, code: str | None, message: str
) -> None:
    error = error_of(post(client, *parts), status)
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        *(("temperature", value, "invalid_value") for value in ("warm", "nan", "-1", "2", "1e999")),
        ("response_format", "xml", "invalid_value"),
        ("response_format", "diarized_json", "unsupported_value"),
        ("languages[]", "klingon", "invalid_language_format"),
        ("languages[]", "fr", "invalid_language_format"),
        ("keywords[]", "<b>", "invalid_value"),
        ("include[]", "usage", "invalid_value"),
        ("chunking_strategy", "server_vad", "invalid_value"),
        ("beam_size", "0", "invalid_value"),
        ("timestamp_granularities[]", "sentence", "invalid_value"),
        ("timestamp_granularities", '["word"', "invalid_value"),
        ("language", "klingon", "invalid_language_format"),
        ("language", "fr", "invalid_language_format"),  # that this model does not speak
        ("nested_words", "perhaps", "invalid_value"),
    ],
)
def test_bad_field_is_named(client: TestClient, name: str, value: str, code: str) -> None:
    error = error_of(post(client, MODEL, field(name, value), file(AUDIO)), 400)
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        name.removesuffix("[]"),
        code,
    )


@pytest.mark.parametrize("name", ["prompt", "language", "model", "temperature"])
def test_a_file_in_a_text_field_s_place_is_named(client: TestClient, name: str) -> None:
    parts = (MODEL, file(AUDIO), part(f'name="{name}"; filename="a.txt"', "text"))
    error = error_of(post(client, *parts), 400)
    assert (error["param"], error["code"]) == (name, "invalid_value")


def test_errors_are_json_whatever_format_was_asked_for(client: TestClient) -> None:
    error_of(post(client, MODEL, field("response_format", "srt"), file(b"")), 400)


def test_an_internal_error_is_an_envelope_without_its_cause(
    client: TestClient,
) -> None:
    answer = post(client, MODEL, field("prompt", "break"), file(AUDIO))
    error = error_of(answer, 500)
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, None)
    assert CAUSE not in answer.text
    assert post(client, MODEL, file(AUDIO)).status_code == 200


def test_an_error_of_the_framework_is_an_envelope_that_names_the_parameter() -> None:
    app = FastAPI()
    add_handlers(app)

    @app.get("/count")
    async def count(times: int) -> int:
        return times

    answer = TestClient(app).get("/count?times=many")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "times", "invalid_value")
    assert error["message"].startswith("Invalid value for 'times': Input should be a valid integer")
    assert "test_errors" not in error["message"]  # its own text names files


def test_uploads_are_closed_after_every_kind_of_request(client: TestClient) -> None:
    """A file left open would warn, which is an error here, when it is collected."""
    large = file(wav() + bytes(2 << 20))
    for parts in ([MODEL, large], [MODEL, field("temperature", "2"), large], [large], [MODEL, large, large]):
        post(client, *parts)
