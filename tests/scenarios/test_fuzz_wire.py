"""Thousands of odd conversations with a running server: none breaks it, and none leaves anything behind."""

import errno
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from tests.support.fakes import DEADLINE_S, wait_until
from tests.support.serving import Running, serving
from tests.support.wire_fuzz import Conversation, conversation

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(3 * 3600),
]

AT_ONCE = 24
KEY = "sesame-0123456789abcdefghij"
DOCUMENTED = {501, 503, 507}  # of the statuses from 500 on
WARM_UP = range(900_000, 900_050)
GROWTH_MB = 60.0
IMPATIENT = {f"{phase}_timeout_seconds": 1 for phase in ("idle", "head", "send", "upload")}


@pytest.fixture(scope="module", params=["", KEY], ids=["without keys", "with keys"])
def target(request: pytest.FixtureRequest) -> Iterator[Running]:
    """It must end well, and without a traceback in its log."""
    with serving(api_keys=request.param, trusted_proxies="127.0.0.1", log_level="debug", **IMPATIENT) as running:
        yield running


def hold(server: Running, talk: Conversation) -> bytes:
    """Send all that the server takes; return what it has sent."""
    address = urlsplit(server.base_url)
    received = b""
    with socket.create_connection((address.hostname, address.port), DEADLINE_S) as connection:
        with suppress(ConnectionError):
            for piece in talk.pieces:
                connection.sendall(piece)
            if talk.end == "half-close":
                half_close(connection)
            while talk.end in ("read", "half-close") and (more := connection.recv(1 << 16)):
                received += more
        if talk.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return received


def half_close(connection: socket.socket) -> None:
    """Send no more; the server may have reset the connection by then."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


def statuses(server: Running, number: int) -> list[int]:
    """Those of the n-th conversation; a fault of the server's fails the test."""
    received = hold(server, conversation(number, KEY))
    found = [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) ", received, re.MULTILINE)]
    assert all(status < 500 or status in DOCUMENTED for status in found), (number, received[:500])
    assert not received or received.startswith(b"HTTP/1.1 "), (number, received[:500])
    return found


def is_idle(server: Running, sockets: int, files: int) -> bool:
    """Whether no connection, request, upload or audio of those that were is left."""
    metrics = server.get("/metrics", key=KEY).text
    counts = [
        float(value)
        for value in re.findall(r"^sotto_(?:requests|uploads|upload_bytes|spool_bytes) (\S+)$", metrics, re.M)
    ]
    assert len(counts) == 4, metrics
    return not any(counts) and server.open_files("socket:") <= sockets and server.open_files("(deleted)") <= files


@pytest.mark.parametrize(
    "numbers",
    [
        range(60),
        pytest.param(range(5_000), marks=pytest.mark.slow),
        pytest.param(range(45_000), marks=pytest.mark.soak),
    ],
    ids=len,
)
def test_odd_conversations_break_nothing_and_leave_nothing(target: Running, numbers: range) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: statuses(target, number), WARM_UP))
        wait_until(lambda: is_idle(target, sys.maxsize, sys.maxsize))
        sockets, files, memory_mb = (
            target.open_files("socket:"),
            target.open_files("(deleted)"),
            target.resident_mb(),
        )
        begun = time.monotonic()
        outcomes = Counter(status for found in pool.map(lambda n: statuses(target, n), numbers) for status in found)
    print(f"{len(numbers)} conversations in {time.monotonic() - begun:.0f} s:", dict(outcomes.most_common()))
    assert target.get("/health").status_code == 200
    wait_until(lambda: is_idle(target, sockets, files))
    assert target.resident_mb() - memory_mb < GROWTH_MB
    assert "Traceback" not in target.log
    assert all(line.isprintable() for line in target.log.splitlines() if not line.startswith("    "))
    assert {200, 400, 404} <= set(outcomes)
