import asyncio
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from server.api.errors import add_handlers
from server.api.gate.admission import Admission
from server.api.gate.admission_limits import AdmissionLimits
from server.api.gate.gate import Gate
from server.api.gate.guess_limit import GUESS_S
from server.api.gate.response_guard import DISCARD_BYTES, DISCARD_S
from server.monitoring.request_metrics import RequestMetrics
from server.settings import Settings
from tests.support.bad_inputs import DATA, wav
from tests.support.fakes import DEADLINE_S, eventually, wait_until
from tests.support.serving import TRANSCRIPTIONS, Running, serving
from tests.support.wire import Connection, field, file, form

FIRST_KEY = "first-key-0123456789abcdefgh"
SECOND_KEY = "second-key-0123456789abcdefg"
WRONG_KEY = "wrong-key-0123456789abcdefgh"
LIMIT = 1 << 20
SLACK = 8 << 20  # what the kernel's buffers of both ends may hold
SILENCE = "silence_10s.wav"
FORM = form(field("model", "whisper-1"), file((DATA / SILENCE).read_bytes()))
STUCK_S = DISCARD_S / 4  # without a byte taken: nobody reads


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    """Two keys, a megabyte at most, two requests at once of which one per key; everything it can log, it logs."""
    settings = {"max_upload_mb": 1, "max_requests": 2, "max_requests_per_client": 1, "log_level": "debug"}
    with serving(api_keys=f"desk {FIRST_KEY}, {SECOND_KEY}", **settings) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@contextmanager
def upload_under_way(server: Running, key: str) -> Iterator[Connection]:
    """A request that was let in and has not sent all of its body yet."""
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(FORM)), **bearer(key)})
        connection.send(FORM[:1000])
        yield connection


def wait_until_admitted(server: Running, key: str) -> None:
    """Until an upload that was broken off no longer counts."""
    wait_until(lambda: server.transcribe(SILENCE, key=key).status_code == 200)


# Keys.


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, "/v1/models", "/v1/models/demo", "/nowhere"])
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer "}, {"Authorization": FIRST_KEY}]
)
def test_a_request_without_a_key_gets_401(guarded: Running, path: str, headers: dict[str, str]) -> None:
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": "0", **headers}, path=path)
        answer = connection.answer()
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["param"], error["code"]) == (
        401,
        "invalid_request_error",
        None,
        None,
    )
    assert error["message"].startswith("You didn't provide an API key.")


def test_who_guesses_keys_is_slowed_down_and_others_are_not() -> None:
    def asked(server: Running, key: str, address: str) -> httpx2.Response:
        return httpx2.get(f"{server.base_url}/v1/models", headers=bearer(key) | {"X-Forwarded-For": address})

    with serving(api_keys=f"{FIRST_KEY}, {SECOND_KEY}", trusted_proxies="127.0.0.1") as server:
        assert asked(server, FIRST_KEY, "192.0.2.7").status_code == 200
        guesses = (asked(server, WRONG_KEY, "192.0.2.7") for _ in range(1000))
        refused = next(answer for answer in guesses if answer.status_code != 401)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert 1 <= int(refused.headers["retry-after"]) <= GUESS_S
        assert asked(server, FIRST_KEY, "192.0.2.7").status_code == 200
        assert asked(server, SECOND_KEY, "192.0.2.8").status_code == 200


@pytest.mark.parametrize(
    "key", [WRONG_KEY, FIRST_KEY[:-1], f"{FIRST_KEY}x", FIRST_KEY.upper(), f"{FIRST_KEY}, {SECOND_KEY}", "x", "é"]
)
def test_a_wrong_key_is_refused(guarded: Running, key: str) -> None:
    with Connection(guarded.base_url) as connection:
        answer = connection.post(FORM, bearer(key))
    error = answer.json()["error"]
    assert (answer.status, error["param"], error["code"]) == (401, None, "invalid_api_key")
    assert error["message"].startswith("Incorrect API key provided: ")
    assert key not in error["message"]


@pytest.mark.parametrize("authorization", [f"Bearer {FIRST_KEY}", f"Bearer {SECOND_KEY}", f"bearer  {SECOND_KEY}"])
def test_each_key_is_accepted(guarded: Running, authorization: str) -> None:
    with Connection(guarded.base_url) as connection:
        assert connection.post(FORM, {"Authorization": authorization}).status == 200


def test_health_needs_no_key(guarded: Running) -> None:
    assert guarded.get("/health").json()["status"] == "ok"


def test_a_key_is_checked_before_the_body_comes(guarded: Running) -> None:
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": str(len(FORM)), **bearer(WRONG_KEY)})
        connection.send(b"-")  # and then nothing more
        assert connection.answer().status == 401


def test_a_client_that_asks_before_it_sends_is_refused_at_once(guarded: Running) -> None:
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": "1000000", "Expect": "100-continue", **bearer(WRONG_KEY)})
        answer = connection.answer()
        assert answer.status == 401
        assert connection.socket.recv(1) == b""  # closed: what it sends next could be the body, or a request


# Sizes.


def too_large(read_bytes: str) -> str:
    return rf"Maximum content size limit \({LIMIT}\) exceeded \({read_bytes} bytes read\) \(SOTTO_MAX_UPLOAD_MB\)"


def test_declared_size_above_the_limit_is_refused_before_the_body(guarded: Running) -> None:
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": str(LIMIT + 1), **bearer(FIRST_KEY)})
        answer = connection.answer()
    error = answer.json()["error"]
    assert (answer.status, error["type"], error["param"], error["code"]) == (413, "server_error", None, None)
    assert re.fullmatch(too_large(str(LIMIT + 1)), error["message"])


def test_a_client_that_sends_megabytes_blindly_can_read_the_413(guarded: Running) -> None:
    with Connection(guarded.base_url) as connection:
        answer = connection.post(bytes(4 * LIMIT), bearer(FIRST_KEY))
    assert answer.status == 413


def test_a_client_that_sends_chunks_blindly_can_read_the_413(guarded: Running) -> None:
    head, tail = FORM[:-200], FORM[-200:]
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked", **bearer(FIRST_KEY)})
        connection.send_chunk(head)
        for _ in range(64):
            connection.send_chunk(bytes(LIMIT // 16))
        connection.send_chunk(tail)
        connection.send_chunk(b"")
        answer = connection.answer()
    assert answer.status == 413
    assert re.fullmatch(too_large(r"1\d{6}"), answer.json()["error"]["message"])


def test_a_body_of_exactly_the_limit_is_taken(guarded: Running) -> None:
    audio = wav(bytes(32_000))
    wait_until_admitted(guarded, FIRST_KEY)
    padding = bytes(LIMIT - len(form(field("model", "whisper-1"), file(audio))))
    with Connection(guarded.base_url) as connection:
        answer = connection.post(form(field("model", "whisper-1"), file(audio + padding)), bearer(FIRST_KEY))
    assert answer.status == 200


def test_an_endless_refused_body_is_not_read(guarded: Running) -> None:
    """At most 4 MiB of it are taken, and what the kernel holds."""
    sent = 0
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked", **bearer(WRONG_KEY)})
        try:
            while sent < 8 * DISCARD_BYTES:
                connection.send_chunk(bytes(LIMIT // 4))
                sent += LIMIT // 4
        except (ConnectionError, TimeoutError):
            pass
    assert sent <= DISCARD_BYTES + SLACK


def test_a_wrong_key_with_a_gigabyte_is_answered_without_reading_it(guarded: Running) -> None:
    sent = 0
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": str(1 << 30), **bearer(WRONG_KEY)})
        connection.socket.settimeout(STUCK_S)
        with suppress(TimeoutError):  # the server has stopped reading
            while sent < 1 << 30:
                connection.send(bytes(LIMIT))
                sent += LIMIT
        connection.socket.settimeout(DEADLINE_S)
        assert connection.answer().status == 401
    assert sent <= DISCARD_BYTES + SLACK


def test_a_connection_stays_open_while_the_client_may_not_have_read_the_answer(guarded: Running) -> None:
    """Node's fetch writes what it has first: a reset would be all that it sees."""
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": str(8 * DISCARD_BYTES), **bearer(FIRST_KEY)})
        connection.socket.settimeout(STUCK_S)
        with pytest.raises(TimeoutError):  # the server has stopped reading; it has not closed
            connection.send(bytes(8 * DISCARD_BYTES))
        connection.socket.settimeout(DEADLINE_S)
        assert connection.answer().status == 413


def test_a_refused_body_that_never_comes_is_not_waited_for(guarded: Running) -> None:
    with Connection(guarded.base_url) as connection:
        connection.send_head({"Content-Length": "1000000", **bearer(WRONG_KEY)})
        assert connection.answer().status == 401
        assert connection.socket.recv(1) == b""


# How many at once.


def test_more_than_one_client_may_have_is_429(guarded: Running) -> None:
    with upload_under_way(guarded, FIRST_KEY):
        answer = guarded.transcribe(SILENCE, key=FIRST_KEY)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
    assert error["message"].startswith("Rate limit reached")
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-should-retry" not in answer.headers
    wait_until_admitted(guarded, FIRST_KEY)


def test_more_than_the_server_takes_is_503(guarded: Running) -> None:
    with upload_under_way(guarded, FIRST_KEY), upload_under_way(guarded, SECOND_KEY):
        answer = guarded.transcribe(SILENCE, key=SECOND_KEY)
        assert guarded.get("/health").status_code == 200
        assert guarded.get("/v1/models", key=FIRST_KEY).status_code == 200
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (503, "server_error", None)
    assert int(answer.headers["retry-after"]) >= 1
    wait_until_admitted(guarded, FIRST_KEY)
    wait_until_admitted(guarded, SECOND_KEY)


def test_one_client_s_uploads_don_t_count_for_another(guarded: Running) -> None:
    with upload_under_way(guarded, FIRST_KEY) as connection:
        assert guarded.transcribe(SILENCE, key=SECOND_KEY).status_code == 200
        connection.send(FORM[1000:])
        assert connection.answer().status == 200


# What every answer carries, and what is never written down.


def test_every_answer_has_an_id_of_its_own_and_its_time(guarded: Running) -> None:
    answers = [
        guarded.get("/health"),
        guarded.get("/health"),
        guarded.get("/v1/models"),
        guarded.get("/nowhere", key=FIRST_KEY),
        guarded.get(TRANSCRIPTIONS, key=FIRST_KEY),
        guarded.transcribe(SILENCE, key=FIRST_KEY),
        guarded.transcribe(b"", key=FIRST_KEY),
        guarded.transcribe(bytes(LIMIT), key=FIRST_KEY),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 401, 404, 405, 200, 400, 413]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)
    for answer in answers:
        assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])
        assert re.fullmatch(r"\d+", answer.headers["openai-processing-ms"])
        assert answer.headers["openai-version"] == "2020-10-01"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
    wait_until(lambda: all(id in guarded.log for id in ids))


def test_the_log_says_why_a_request_failed(guarded: Running) -> None:
    for answer, reason in [
        (
            guarded.transcribe(SILENCE, key=WRONG_KEY),
            r"in \d+ out \d+ rejected: invalid_api_key: Incorrect API key provided: wrong-ke\*+efgh",
        ),
        (
            guarded.get("/v1/models/none", key=FIRST_KEY),
            r"\(desk\) in \d+ out \d+ rejected: model_not_found: The model 'none' does not exist",
        ),
        (
            guarded.get("/nowhere", key=SECOND_KEY),
            r"\(key 2\) in \d+ out \d+ rejected: invalid_request_error: Invalid URL \(GET /nowhere\)",
        ),
        (
            guarded.transcribe(SILENCE, {"language": "xx"}, key=FIRST_KEY),
            r"\(desk\) in \d+ out \d+ rejected: invalid_language_format: .*ISO-639-1",
        ),
    ]:
        marker = re.escape(answer.headers["x-request-id"])
        guarded.wait_for_line(
            rf"{answer.status_code} +\d\.\d{{3}}s (GET|POST) /\S+ 127.0.0.1 {reason}.* \[{marker}\]\n"
        )


@pytest.mark.parametrize(
    "path", ["/v1/models/a%0AForged%20line%1b%5b31m", "/v1/models/" + "x" * 5000, "/a%0aForged"]
)
def test_the_log_stays_one_short_line_whatever_a_client_sends(guarded: Running, path: str) -> None:
    marker = guarded.get(path, key=FIRST_KEY).headers["x-request-id"]
    line = guarded.wait_for_line(rf".*\[{re.escape(marker)}\]\n")[0]
    assert f"GET {path[:100]}" in line
    assert line[:-1].isprintable()
    assert len(line) < 600


def test_no_key_is_ever_logged(guarded: Running) -> None:
    for key in (FIRST_KEY, SECOND_KEY, WRONG_KEY):
        marker = guarded.transcribe(SILENCE, key=key).headers["x-request-id"]
        guarded.wait_for_line(marker)
    with Connection(guarded.base_url) as connection:
        connection.send(f"broken {FIRST_KEY}\r\n\r\n".encode())
        assert connection.answer().status == 400
    assert guarded.get("/health").status_code == 200
    for key in (FIRST_KEY, SECOND_KEY, WRONG_KEY):
        assert key[4:-4] not in guarded.log


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_shows_a_key(guarded: Running) -> None:
    children = guarded.engines() + guarded.children("server.audio.fork_server")
    shown = [Path(f"/proc/{guarded.process.pid}/cmdline")]
    shown += [Path(f"/proc/{pid}/{file}") for pid in children for file in ("cmdline", "environ")]
    assert len(shown) == 5
    for path in shown:
        for key in (FIRST_KEY, SECOND_KEY):
            assert key.encode() not in path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() == 0, reason="root may read every process")
def test_a_server_with_keys_can_t_be_read_by_its_user_s_other_processes(guarded: Running, server: Running) -> None:
    for name in ("environ", "smaps"):
        with pytest.raises(PermissionError):
            Path(f"/proc/{guarded.process.pid}/{name}").read_bytes()
    assert Path(f"/proc/{server.process.pid}/environ").read_bytes()  # without keys it can be debugged


def test_without_keys_any_key_is_ignored(server: Running) -> None:
    for key in ("", "sk-x", WRONG_KEY):
        assert server.transcribe(SILENCE, key=key).status_code == 200


# What OpenAI's own client makes of refusals.


def ask(server: Running, key: str, **options: Any) -> openai.APIStatusError:
    """The exception that its client raises."""
    with server.sdk(key) as client, pytest.raises(openai.APIStatusError) as caught:
        client.audio.transcriptions.create(**{"model": "whisper-1", "file": DATA / SILENCE, **options})
    return caught.value


@pytest.mark.parametrize(
    ("key", "options", "expected", "code", "param"),
    [
        (WRONG_KEY, {}, openai.AuthenticationError, "invalid_api_key", None),
        (FIRST_KEY, {"file": b"no sound"}, openai.BadRequestError, "invalid_value", "file"),
        (FIRST_KEY, {"language": "xx"}, openai.BadRequestError, "invalid_language_format", "language"),
        (FIRST_KEY, {"model": "none"}, openai.NotFoundError, "model_not_found", "model"),
        (FIRST_KEY, {"file": bytes(3 * LIMIT)}, openai.APIStatusError, None, None),
    ],
)
def test_sdk_raises_the_right_class(
    guarded: Running,
    key: str,
    options: dict[str, Any],
    expected: type[openai.APIStatusError],
    code: str | None,
    param: str | None,
) -> None:
    error = ask(guarded, key, **options)
    assert type(error) is expected
    assert (error.code, error.param) == (code, param)
    assert error.type in {"invalid_request_error", "server_error"}
    assert error.request_id
    if expected is openai.APIStatusError:
        assert error.status_code == 413


def test_sdk_raises_rate_limit_and_server_errors(guarded: Running) -> None:
    with ExitStack() as stack:
        stack.enter_context(upload_under_way(guarded, FIRST_KEY))
        assert type(ask(guarded, FIRST_KEY)) is openai.RateLimitError
        stack.enter_context(upload_under_way(guarded, SECOND_KEY))
        wait_until(lambda: type(ask(guarded, FIRST_KEY)) is openai.InternalServerError)
    wait_until_admitted(guarded, FIRST_KEY)


# What is read of a refused body: nothing by the application, little by the gate.


class Body:
    """An upload as the server's side sees it: megabytes without end, or silence. `sent` is what it was answered."""

    def __init__(self, *, comes: bool) -> None:
        self.read_bytes = 0
        self.sent: list[Message] = []
        self.sent_unread: list[Message] | None = None
        self._comes = comes

    async def receive(self) -> Message:
        if self.sent_unread is None:
            self.sent_unread = self.sent[:]
        if not self._comes:
            await asyncio.Event().wait()
        self.read_bytes += LIMIT
        return {"type": "http.request", "body": bytes(LIMIT), "more_body": True}


def recording_app(seen: list[str]) -> FastAPI:
    """An application that reads whatever it is given."""
    app = FastAPI()
    add_handlers(app)

    @app.post("/health")
    @app.post(TRANSCRIPTIONS)
    async def take(request: Request) -> Response:
        seen.append(request.url.path)
        await request.body()
        return Response()

    return app


def gated(settings: Settings, seen: list[str]) -> Gate:
    return Gate(recording_app(seen), settings, Admission(AdmissionLimits.of(settings, cpus=1)), RequestMetrics())


async def posted(
    gate: Gate, body: Body, *headers: tuple[bytes, bytes], path: str = TRANSCRIPTIONS
) -> list[Message]:
    """What the gate sends for a POST of `body`."""

    async def send(message: Message) -> None:
        body.sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    await gate(scope, body.receive, send)
    return body.sent


def refused(gate: Gate, body: Body, *headers: tuple[bytes, bytes]) -> list[Message]:
    return asyncio.run(posted(gate, body, *headers))


CHUNKED = (b"transfer-encoding", b"chunked")
RIGHT = (b"authorization", f"Bearer {FIRST_KEY}".encode())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([CHUNKED], 401),
        ([CHUNKED, (b"authorization", b"Bearer x")], 401),
        ([(b"content-length", b"10000000")], 401),
        ([RIGHT, (b"content-length", str(LIMIT + 1).encode())], 413),
    ],
)
def test_a_refused_body_never_reaches_the_application(headers: list[tuple[bytes, bytes]], status: int) -> None:
    seen: list[str] = []
    gate = gated(Settings(api_keys=(SecretStr(FIRST_KEY),), max_upload_mb=1), seen)
    body = Body(comes=True)
    start, *bodies = refused(gate, body, *headers)
    assert start["status"] == status
    assert seen == []
    assert body.sent_unread
    assert b"".join(message.get("body", b"") for message in body.sent_unread).endswith(b"}")  # all of the answer
    assert body.read_bytes <= DISCARD_BYTES + LIMIT
    assert not bodies[-1].get("more_body")


def test_a_refused_body_is_counted_once_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "server.access")
    gate = gated(Settings(max_upload_mb=1), [])
    body = Body(comes=True)
    refused(gate, body, CHUNKED)
    assert f" in {body.read_bytes} out " in caplog.messages[-1]


def test_a_body_that_never_comes_times_out() -> None:
    gate = gated(Settings(api_keys=(SecretStr(FIRST_KEY),)), [])
    began = time.monotonic()
    refused(gate, Body(comes=False), CHUNKED)
    assert DISCARD_S <= time.monotonic() - began < 10 * DISCARD_S


def test_refusals_are_not_counted_as_under_way() -> None:
    gate = gated(Settings(api_keys=(SecretStr(FIRST_KEY),), max_requests=1, max_upload_mb=1), [])
    for _ in range(3):
        start, *_ = refused(gate, Body(comes=True), RIGHT, (b"content-length", b"99999999"))
        assert start["status"] == 413


def test_only_transcriptions_count() -> None:
    """Else whoever has no key could post to /health, slowly, until nobody else is let in."""
    seen: list[str] = []
    gate = gated(Settings(api_keys=(SecretStr(FIRST_KEY),), max_requests=1, max_upload_mb=1), seen)

    async def ask_meanwhile() -> list[Message]:
        slow = asyncio.create_task(posted(gate, Body(comes=False), CHUNKED, path="/health"))
        await eventually(lambda: seen == ["/health"])
        answer = await posted(gate, Body(comes=True), RIGHT, CHUNKED)
        slow.cancel()
        await slow
        return answer

    assert asyncio.run(ask_meanwhile())[0]["status"] == 413


def test_a_body_beyond_the_limit_stops_the_application() -> None:
    """However it was framed, and whatever length was declared."""
    seen: list[str] = []
    gate = gated(Settings(max_upload_mb=1), seen)
    body = Body(comes=True)
    start, *_ = refused(gate, body, CHUNKED)
    assert start["status"] == 413
    assert seen == [TRANSCRIPTIONS]
    assert body.read_bytes <= LIMIT + DISCARD_BYTES + 2 * LIMIT
