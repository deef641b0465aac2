import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from select import select

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.api.connection_table import LOOPBACK_RESERVE, ConnectionTable
from server.api.h11_connection import HEAD_BYTES
from server.api.h11_protocol import FIRST_REQUEST_S, Protocol
from server.settings import Settings
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
    server.wait_for_line(rf"rejected without reading the request: {status} .*\[{answer.headers['x-request-id']}\]")


def test_chunks_that_break_off_midway_are_refused_in_the_envelope(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"})
        connection.send_chunk(FORM[:1000])
        connection.send(b"no length\r\n")
        message_of(connection.answer(), 400)
    wait_until(lambda: "499 " in server.log)


def rest_of(connection: Connection) -> bytes:
    """All that the server sends until it closes."""
    received = b""
    while more := connection.socket.recv(1 << 16):
        received += more
    return received


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\r\n"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/models", 200), ("HEAD", "/v1/models", 200), ("POST", "/v1/models", 405), ("POST", "", 400)],
)
def test_request_and_broken_body_that_come_together_are_answered_once(
    server: Running, method: str, path: str, status: int, expect: str
) -> None:
    """Reading the body fails; the route of a GET does not read it."""
    with Connection(server.base_url) as connection:
        head = f"{method} {path or TRANSCRIPTIONS} HTTP/1.1\r\nHost: localhost\r\n{expect}"
        head += "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(f"{head}no length\r\n".encode())
        response = rest_of(connection)
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert response.count(b"HTTP/1.1 ") == 1
    assert response.endswith(b"\r\n\r\n") == (method == "HEAD")
    assert b"connection: close" in response
    assert "Traceback" not in server.log


# Framing that a proxy in front could understand otherwise.


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("1.0", "Transfer-Encoding: chunked\r\n"),
    ],
)
def test_body_with_two_lengths_is_refused_and_nothing_behind_it_is_answered(
    server: Running, method: str, version: str, headers: str
) -> None:
    with Connection(server.base_url) as connection:
        connection.send(f"{method} /v1/models HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n0\r\n\r\n".encode())
        connection.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        response = rest_of(connection)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in response.lower()
    assert (b"Transfer-Encoding together with Content-Length" in response) == (method != "HEAD")


# Tiny chunks.


def test_chunks_of_a_refused_body_are_not_parsed(server: Running) -> None:
    """What is counted of it are bytes of the wire: six for a chunk of one."""
    wire = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"}, path="/nowhere")
        connection.send(wire)
        response = rest_of(connection)
    assert response.startswith(b"HTTP/1.1 404 ")
    assert response.count(b"HTTP/1.1 ") == 1
    server.wait_for_line(rf"404 .* /nowhere .* in {len(wire)} out")


def test_body_in_too_many_tiny_chunks_is_refused_and_its_client_can_read_why(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"})
        connection.send_chunk(FORM[: FORM.index(b"RIFF")])
        connection.send(b"1\r\nx\r\n" * 100_000)  # goes on blindly
        assert "too many tiny chunks" in message_of(connection.answer(), 400)
    assert server.get("/health").status_code == 200


# Heads.


def statuses(connection: Connection, count: int) -> list[int]:
    """Of the next `count` answers, which may come together."""
    received = b""
    while received.count(b"HTTP/1.1 ") < count:
        more = connection.socket.recv(1 << 16)
        assert more, received
        received += more
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received)]


def head_of(size: int) -> bytes:
    """A whole head of `size` bytes."""
    start, end = b"GET /health HTTP/1.1\r\nHost: x\r\nCookie: ", b"\r\n\r\n"
    return start + b"x" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["alone", "pipelined"])
@pytest.mark.parametrize(("size", "status"), [(HEAD_BYTES, 200), (HEAD_BYTES + 1, 431), (3 * HEAD_BYTES, 431)])
def test_head_is_limited_however_it_arrives(server: Running, before: bytes, size: int, status: int) -> None:
    sent = before + head_of(size)
    for pieces in ([sent], [sent[:-1], sent[-1:]], [sent[:HEAD_BYTES], sent[HEAD_BYTES:]]):
        with Connection(server.base_url) as connection:
            for piece in pieces:
                connection.send(piece)
            assert statuses(connection, 2 if before else 1) == [*[200] * bool(before), status]


def test_heads_of_many_requests_count_each_by_itself(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send(head_of(HEAD_BYTES // 2) * 10)
        assert statuses(connection, 10) == [200] * 10


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


HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 4
MOST = LIMIT + LOOPBACK_RESERVE


@pytest.fixture(scope="module")
def crowded() -> Iterator[Running]:
    with serving(max_connections=LIMIT) as running:
        yield running


def test_idle_connections_give_way_to_new_ones(crowded: Running) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(Connection(crowded.base_url)) for _ in range(MOST)]
        held[0].send(HEALTH)  # the longest without a request is then the next one
        assert held[0].answer().status == 200
        held[1].send(HEALTH[:20])  # not a request yet
        newer = [stack.enter_context(Connection(crowded.base_url)) for _ in range(2)]
        for connection in newer:
            connection.send(HEALTH)
            assert connection.answer().status == 200
        with suppress(ConnectionError):
            wait_until_closed(held[1])
        with suppress(ConnectionError):
            wait_until_closed(held[2])
        for connection in (held[0], *held[3:], *newer):
            connection.send(HEALTH)
            assert connection.answer().status == 200


def test_connections_with_requests_stay_and_one_more_is_refused(crowded: Running) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(Connection(crowded.base_url)) for _ in range(MOST)]
        for connection in held:
            connection.send_head({"Content-Length": str(len(FORM)), "Expect": "100-continue"})
            assert connection.socket.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        answer = stack.enter_context(Connection(crowded.base_url)).answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["message"].startswith("The server has too many open connections")
        held[0].send(FORM)
        assert held[0].answer().status == 200
        held[1].socket.close()
        wait_until(lambda: crowded.get("/health").status_code == 200)


def test_refused_uploads_give_way_too(crowded: Running) -> None:
    """They stay open for a moment, so that their clients can read the answer."""
    wait_until(lambda: crowded.get("/health").status_code == 200)
    with ExitStack() as stack:
        for _ in range(MOST):
            connection = stack.enter_context(Connection(crowded.base_url))
            connection.send_head({"Content-Length": "1000000"}, path="/nowhere")
            connection.send(b"x")
            assert connection.socket.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
            connection.send(b"x")
        assert crowded.get("/health").status_code == 200


def test_health_is_answered_however_many_connections_idle(crowded: Running) -> None:
    wait_until(lambda: crowded.get("/health").status_code == 200)  # what other tests held is gone
    with ExitStack() as stack:
        for _ in range(3 * MOST):
            stack.enter_context(Connection(crowded.base_url))
        assert crowded.get("/health").status_code == 200


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
                    connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
            return server.open_files("socket:") < before

        wait_until(dropped)


# A client on another machine, by the sockets that the protocol would have.


class RemoteSocket:
    """Of a connection from `address`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def getpeername(self) -> tuple[str, int]:
        return self._address, 5000

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.1", 8000

    def setsockopt(self, *_: int) -> None:
        """Nothing to time out."""


class RemoteTransport(asyncio.Transport):
    def __init__(self, address: str) -> None:
        super().__init__({"socket": RemoteSocket(address)})
        self.written = b""
        self.aborted = False
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        """Nothing more is written."""

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


def remote(
    table: ConnectionTable, address: str, loop: asyncio.AbstractEventLoop
) -> tuple[Protocol, RemoteTransport]:
    """A connection that has just been made."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nothing was asked")

    config = uvicorn.Config(application, http=Protocol, log_config=None, timeout_keep_alive=75)
    state = {"settings": Settings(), "connections": table}
    protocol, transport = Protocol(config, ServerState(), state, _loop=loop), RemoteTransport(address)
    protocol.connection_made(transport)
    return protocol, transport


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_one_address_has_half_of_the_connections(loop: asyncio.AbstractEventLoop) -> None:
    table = ConnectionTable(4)
    first, second, third = (remote(table, "203.0.113.5", loop)[1] for _ in range(3))
    other = remote(table, "203.0.113.6", loop)[1]
    assert [each.aborted for each in (first, second, third, other)] == [True, False, False, False]
    assert not any(each.written or each.closed for each in (second, third, other))


def test_new_connection_that_sends_nothing_is_closed_before_an_idle_one(loop: asyncio.AbstractEventLoop) -> None:
    protocol, _ = remote(ConnectionTable(4), "203.0.113.5", loop)
    assert protocol.timeout_keep_alive_task
    assert protocol.timeout_keep_alive_task.when() - loop.time() <= FIRST_REQUEST_S < protocol.timeout_keep_alive
