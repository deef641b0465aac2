from collections.abc import Iterator

import pytest

from server.protocol import HEAD_BYTES
from tests.bad_inputs import DATA
from tests.fakes import wait_until
from tests.serving import TRANSCRIPTIONS, Running, serving
from tests.wire import Answer, Connection, field, file, form

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
def test_what_is_no_request_is_refused_in_the_envelope(
    server: Running, head: str, status: int, message: str
) -> None:
    with Connection(server.base_url) as connection:
        connection.send(head.encode("latin-1"))
        assert message in message_of(connection.answer(), status)


def test_chunks_that_break_off_midway_are_refused_in_the_envelope(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"})
        connection.send_chunk(FORM[:1000])
        connection.send(b"no length\r\n")
        message_of(connection.answer(), 400)
    wait_until(lambda: " 499 " in server.log)


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


def test_offer_of_http_2_is_declined_without_a_word(server: Running) -> None:
    logged = len(server.log)
    with Connection(server.base_url) as connection:
        for _ in range(2):
            assert connection.post(FORM, UPGRADE).status == 200
    assert server.queue() == (0, 0)
    assert "pgrade" not in server.log[logged:]
