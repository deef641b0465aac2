"""What takes too long, is too long or never comes: a clear answer, and the place is free again."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from select import select

import pytest

from server.api.gate.admission import LITTLE_TEXT_BYTES, TEXT_BYTES
from tests.support.bad_inputs import DATA, days_of_silence
from tests.support.fakes import DEADLINE_S, wait_until
from tests.support.serving import Running, serving
from tests.support.wire import BOUNDARY, Answer, Connection, field, file, form

LONG = form(field("model", "whisper-1"), file((DATA / "ten_minutes.ogg").read_bytes()))
SPEECH = "en_02.wav"


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """An upload may stop for a second; a minute of audio at most."""
    with serving(upload_timeout_seconds=1, max_audio_seconds=60) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[Running]:
    """A request may take a second, which ten minutes of audio never do."""
    with serving(request_timeout_seconds=1) as running:
        yield running


def refusal(answer: Answer, status: int) -> str:
    assert answer.status == status
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    return str(answer.json()["error"]["message"])


def wait_until_free(server: Running) -> None:
    wait_until(lambda: server.metric("sotto_requests") == 0)


@pytest.mark.parametrize("drop", [b"", b"x"], ids=["stops", "drips"])
def test_an_upload_that_does_not_come_times_out(strict: Running, drop: bytes) -> None:
    with Connection(strict.base_url) as connection:
        connection.send_head({"Content-Length": str(len(LONG))})
        connection.send(LONG[:10_000])

        def answered() -> bool:
            connection.send(drop)
            return bool(select([connection.socket], [], [], 0.05)[0])

        wait_until(answered)
        message = refusal(connection.answer(), 408)
    assert message.startswith("The upload is too slow: fewer than 500 bytes per second")
    wait_until_free(strict)


def test_an_upload_that_is_slow_but_steady_is_taken(strict: Running) -> None:
    body = form(field("model", "whisper-1"), file((DATA / SPEECH).read_bytes()))
    step = len(body) // 40 + 1
    began = time.monotonic()
    with Connection(strict.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body))})
        for start in range(0, len(body), step):
            connection.send(body[start : start + step])
            assert not select([connection.socket], [], [], 0.05)[0] or start + step >= len(body)
        assert connection.answer().status == 200
    assert time.monotonic() - began > 1.5


def test_text_of_forms_that_fills_memory_is_refused_and_little_text_is_not(server: Running) -> None:
    most = b"x" * (TEXT_BYTES // 4)
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.base_url)) for _ in range(5)]
        for connection, text in zip(connections, [*[most] * 4, bytes(2 * LITTLE_TEXT_BYTES)], strict=True):
            send_text(connection, text)
        refused, _, _ = select(connections, [], [], DEADLINE_S)  # whose bytes came last
        answer = refused[0].answer()
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) in range(1, 61)
        assert "no memory left for the text of forms" in answer.json()["error"]["message"]
        assert server.transcribe(SPEECH, {"prompt": "x" * 6000}).status_code == 200
    wait_until_free(server)


def send_text(connection: Connection, text: bytes) -> None:
    """All of a form but its end."""
    connection.send_head({"Content-Length": str(len(text) + 1000)})
    connection.send(f"--{BOUNDARY}\r\n".encode() + field("prompt", "") + text)


def test_days_of_silence_in_a_few_bytes_are_cut(strict: Running) -> None:
    """Not by what their header claims, which may be wrong, but as soon as they are too long."""
    audio = days_of_silence(3)
    assert len(audio) < 100_000
    began = time.monotonic()
    answer = strict.transcribe(audio)
    assert time.monotonic() - began < 10.0  # measured: 0.2 s
    assert answer.status_code == 400
    assert "longer than 60 seconds" in answer.json()["error"]["message"]
    assert strict.metric("sotto_spool_bytes") == 0


def test_a_request_that_takes_too_long_is_ended(hasty: Running) -> None:
    with Connection(hasty.base_url) as connection:
        answer = connection.post(LONG)
    assert refusal(answer, 503).startswith("The request took longer than this server allows")
    assert answer.json()["error"]["code"] == "request_timeout"
    wait_until_free(hasty)
    hasty.wait_until_idle()


def test_an_upload_may_not_take_longer_than_a_request(hasty: Running) -> None:
    with Connection(hasty.base_url) as connection:
        connection.send_head({"Content-Length": str(len(LONG))})
        connection.send(LONG[:-1])
        answer = connection.answer()
    assert refusal(answer, 503).startswith("The request took longer than this server allows")
    wait_until_free(hasty)


def test_a_stream_that_takes_too_long_ends_with_the_reason(hasty: Running) -> None:
    body = form(field("model", "whisper-1"), field("stream", "true"), file((DATA / "ten_minutes.ogg").read_bytes()))
    with Connection(hasty.base_url) as connection:
        answer = connection.post(body)
    if answer.status == 503:  # on a machine so busy that it had not begun
        return
    *_, last = [line for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "request_timeout"
    wait_until_free(hasty)
