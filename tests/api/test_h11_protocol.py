import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from select import select

import pytest

from server.api.h11_protocol import HEAD_BYTES
from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until
from tests.support.serving import TRANSCRIPTIONS, Running, serving
from tests.support.wire import Answer, Connection, field, file, form

FORM = form(field("model", "whisper-1"), file((DATA / "silence_10s.wav").read_bytes()))
POST = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\n"
UPGRADE = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One of its own: it must end without a traceback, whatever it was sent."""
    with serving() as running:
        yield running


def message_of(answer: Answer, status: int) -> str:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    return str(error["message"])


@pytest.mark.parametrize(
    ("head", "status", "message"),
    [
        ("hello\r\n\r\n", 400, "Invalid HTTP request"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "Invalid HTTP request"),  # TLS, to the wrong port
        ("GET /v1/models HTTP/1.1\r\n\r\n", 400, "Invalid HTTP request"),  # no Host
        ("GET /v1/mo dels HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid HTTP request"),
        ("GET /v1/\xe9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Invalid HTTP request"),
        (f"{POST}Host: x\r\nContent-Length: many\r\n\r\n", 400, "Invalid HTTP request"),
        (f"{POST}Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "Transfer-Encoding: chunked"),
        (f"GET /{'x' * HEAD_BYTES}", 431, f"{HEAD_BYTES} bytes"),
        (f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {'x' * HEAD_BYTES}", 431, f"{HEAD_BYTES} bytes"),
    ],
    ids=[
        "words",
        "TLS",
        "no host",
        "space",
        "Latin-1",
        "length",
        "encoding",
        "long URL",
        "long header",
    ],
)
def test_a_malformed_request_is_refused_in_the_envelope(
    server: Running, head: str, status: int, message: str
) -> None:
    with Connection(server.base_url) as connection:
        connection.send(head.encode("latin-1"))
        answer = connection.answer()
    assert message in message_of(answer, status)
    server.wait_for_line(rf"refused unread: {status} .*\[{answer.headers['x-request-id']}\]")


def test_chunks_that_break_off_midway_are_refused_in_the_envelope(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"})
        connection.send_chunk(FORM[:1000])
        connection.send(b"no length\r\n")
        message_of(connection.answer(), 400)
    wait_until(lambda: "499 " in server.log)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_request_and_broken_body_that_come_together_are_refused_once(server: Running, method: str) -> None:
    """The request has begun, and has something to say to a client that has its answer."""
    with Connection(server.base_url) as connection:
        head = f"{method} /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(f"{head}no length\r\n".encode())
        response = b""
        while more := connection.socket.recv(1 << 16):
            response += more
    assert response.startswith(b"HTTP/1.1 400 ")
    assert response.count(b"HTTP/1.1 ") == 1
    assert response.endswith(b"\r\n\r\n") == (method == "HEAD")
    assert "Traceback" not in server.log


def test_broken_chunks_after_an_answer_only_end_the_connection(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"}, path="/nowhere")
        response = connection.socket.recv(1 << 16)
        assert response.startswith(b"HTTP/1.1 404 ")
        connection.send(b"no length\r\n")
        while more := connection.socket.recv(1 << 16):
            response += more
    assert response.count(b"HTTP/1.1") == 1
    assert "Traceback" not in server.log


def test_an_offer_of_http_2_is_declined_without_a_word(server: Running) -> None:
    logged = len(server.log)
    with Connection(server.base_url) as connection:
        for _ in range(2):
            assert connection.post(FORM, UPGRADE).status == 200
    assert server.queue() == (0, 0)
    assert "pgrade" not in server.log[logged:]


# Patience.


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    """A second for everything."""
    with serving(**{f"{phase}_timeout_seconds": 1 for phase in ("idle", "head", "send")}) as running:
        yield running


def wait_until_closed(connection: Connection) -> None:
    assert connection.socket.recv(1) == b""


@pytest.mark.parametrize("before", ["", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_a_connection_without_a_request_is_closed(impatient: Running, before: str) -> None:
    with Connection(impatient.base_url) as connection:
        if before:
            connection.send(before.encode())
            assert connection.answer().status == 200
        wait_until_closed(connection)


@pytest.mark.parametrize("before", ["", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
def test_head_that_drips_is_cut(impatient: Running, before: str) -> None:
    with Connection(impatient.base_url) as connection:
        if before:
            connection.send(before.encode())
            assert connection.answer().status == 200
        connection.send(POST.encode())
        sent = 0

        def drip() -> bool:
            nonlocal sent
            sent += 1
            connection.send(f"X-{sent}: {sent}\r\n".encode())
            return bool(select([connection.socket], [], [], 0.05)[0])

        wait_until(drip)
        assert sent > 5, "it was cut for something else"
        message = message_of(connection.answer(), 408)
        assert message == "The headers of the request did not arrive within 1 seconds (SOTTO_HEAD_TIMEOUT_SECONDS)."
        wait_until_closed(connection)


def test_an_answer_may_take_longer_than_a_request_head(impatient: Running) -> None:
    """No timeout of the connection's runs while a request does."""
    with Connection(impatient.base_url) as connection:
        connection.send_head({"Content-Length": str(len(FORM))})
        connection.send(FORM[:1000])
        assert not select([connection.socket], [], [], 3)[0]
        connection.send(FORM[1000:])
        assert connection.answer().status == 200


def test_a_connection_beyond_the_limit_is_refused_and_others_go_on() -> None:
    with serving(max_connections=3) as server, ExitStack() as stack:
        held = [stack.enter_context(Connection(server.base_url)) for _ in range(3)]
        answer = stack.enter_context(Connection(server.base_url)).answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["message"].startswith("The server has too many open connections")
        held[0].send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert held[0].answer().status == 200
        held[1].socket.close()
        wait_until(lambda: server.get("/health").status_code == 200)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
def test_a_client_that_takes_no_answers_is_dropped() -> None:
    """Its answers fill every buffer there is; a close alone would wait for them for ever."""
    with serving(send_timeout_seconds=1) as server, Connection(server.base_url) as connection:
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.answer().status == 200
        before = server.open_files("socket:")

        def dropped() -> bool:
            with suppress(ConnectionError):
                while select([], [connection.socket], [], 0)[1]:
                    connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
            return server.open_files("socket:") < before

        wait_until(dropped)
