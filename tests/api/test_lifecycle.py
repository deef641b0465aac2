import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.bad_inputs import DATA
from tests.fakes import wait_until
from tests.serving import Running, serving, started
from tests.wire import Connection, field, file, form

LONG = form(field("model", "whisper-1"), file((DATA / "ten_minutes.ogg").read_bytes()))
SPEECH = "en_02.wav"
TEXT = "The party ends at eight."
AT_ONCE_S = 10.0  # of a stop with nothing to wait for; measured: 0.2 s
BATCH_S = 20.0  # that a batch which has begun may take to end; measured: 2 s


@contextmanager
def sent(server: Running, body: bytes = LONG) -> Iterator[Connection]:
    """A client that has sent `body` of the long upload, and goes away at the end."""
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(LONG))})
        connection.send(body)
        yield connection


# Clients that go.


def test_client_that_goes_takes_its_windows_with_it(server: Running) -> None:
    logged = len(server.log)
    with sent(server):
        server.wait_until_busy()
    server.wait_until_idle()
    assert server.transcribe(SPEECH).json()["text"] == TEXT
    wait_until(lambda: " 499 " in server.log[logged:])


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_client_that_goes_during_its_upload_is_no_fault(server: Running, share: float) -> None:
    logged = len(server.log)
    with sent(server, LONG[: int(len(LONG) * share)]):
        pass
    wait_until(lambda: "POST /v1/audio/transcriptions" in server.log[logged:])
    assert server.transcribe(SPEECH).json()["text"] == TEXT
    assert "Traceback" not in server.log[logged:]
    assert server.queue() == (0, 0)


def test_clients_that_go_hinder_nobody_who_stays(server: Running) -> None:
    with ThreadPoolExecutor() as pool:
        with sent(server), sent(server), sent(server):
            staying = pool.submit(server.transcribe, SPEECH)
            server.wait_until_busy()
        assert staying.result().json()["text"] == TEXT
    server.wait_until_idle()


# Stopping. That no process is left, `Running` sees to; that the log has no traceback, `serving`.


def test_stop_when_idle_is_quick() -> None:
    with serving() as server:
        assert server.transcribe(SPEECH).status_code == 200
        began = time.monotonic()
        server.ask_to_stop()
        assert server.wait_for_end() == 0
    assert time.monotonic() - began < AT_ONCE_S


def test_stop_waits_for_the_request_under_way() -> None:
    with serving() as server, ThreadPoolExecutor() as pool:
        under_way = pool.submit(server.transcribe, "german_45s.mp3", {"language": "de"})
        server.wait_until_busy()
        server.ask_to_stop()
        answer = under_way.result()
        assert answer.status_code == 200
        assert len(answer.json()["text"]) > 200
        assert server.wait_for_end() == 0


def test_stop_waits_no_longer_than_the_grace_and_says_so() -> None:
    with serving(grace_seconds=1) as server, sent(server) as connection:
        server.wait_until_busy()
        began = time.monotonic()
        server.ask_to_stop()
        answer = connection.answer()
        assert (answer.status, answer.json()["error"]["message"]) == (503, "The server is shutting down.")
        assert server.wait_for_end() == 0
    assert time.monotonic() - began < 1 + BATCH_S


def test_ctrl_c_stops_without_a_traceback() -> None:
    with started() as server:
        server.wait_until_ready()
        server.process.send_signal(signal.SIGINT)
        assert server.wait_for_end() == 130
    assert "Traceback" not in server.log


# Starting.


def test_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(port=port) as server:
            assert server.wait_for_end() not in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log
    assert "Ready" not in server.log
    (line,) = re.findall(r".*Address already in use.*", server.log)
    assert str(port) in line


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"port": "many"}, "SOTTO_PORT: "),
        ({"max_upload_mb": "0"}, "SOTTO_MAX_UPLOAD_MB: "),
        ({"model": "no-such-model", "offline": "1"}, "no-such-model"),
    ],
)
def test_setting_that_is_wrong_is_told_in_one_line(settings: dict[str, str], message: str) -> None:
    with started(**settings) as server:
        assert server.wait_for_end() in (1, 2)
    assert "Traceback" not in server.log
    assert message in server.log.splitlines()[-1]
