import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.bad_inputs import DATA
from tests.support.broken_av import break_av
from tests.support.fakes import wait_until
from tests.support.serving import Running, serving, started
from tests.support.wire import Connection, field, file, form

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


# The start.


def test_only_of_the_demo_model_the_log_warns(scripted_model: Path) -> None:
    warning = re.compile(
        r"WARNING\s+The demo model only knows a few words\. For real speech: sotto models pull base"
    )
    with serving(model="demo") as demo, serving(model=scripted_model) as other:
        assert warning.search(demo.log)
        assert not warning.search(other.log)


# Clients that go.


def test_a_disconnect_cancels_the_windows(server: Running) -> None:
    logged = len(server.log)
    with sent(server):
        server.wait_until_busy()
    server.wait_until_idle()
    assert server.transcribe(SPEECH).json()["text"] == TEXT
    wait_until(lambda: "499 " in server.log[logged:])


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_disconnect_during_an_upload_is_no_error(server: Running, share: float) -> None:
    logged = len(server.log)
    with sent(server, LONG[: int(len(LONG) * share)]):
        pass
    wait_until(lambda: "POST /v1/audio/transcriptions" in server.log[logged:])
    assert server.transcribe(SPEECH).json()["text"] == TEXT
    assert "Traceback" not in server.log[logged:]
    assert server.queue() == (0, 0)


def test_clients_that_disconnect_do_not_disturb_the_others(server: Running) -> None:
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


@contextmanager
def many_accepted(server: Running, count: int = 20) -> Iterator[list[Connection]]:
    """Connections that have sent a whole request each, and are accepted."""
    body = form(field("model", "whisper-1"), file((DATA / SPEECH).read_bytes()))
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.base_url)) for _ in range(count)]
        for connection in connections:
            connection.send_head({"Content-Length": str(len(body))})
            connection.send(body)
        assert server.get("/health").status_code == 200  # they are accepted in order
        yield connections


def test_stop_loses_nothing_that_was_accepted() -> None:
    with serving() as server, many_accepted(server) as connections:
        server.ask_to_stop()
        answers = [connection.answer() for connection in connections]
        assert [answer.status for answer in answers] == [200] * len(answers)
        assert {answer.json()["text"] for answer in answers} == {TEXT}
        assert server.wait_for_end() == 0


def test_a_stop_answers_every_request_it_cannot_serve() -> None:
    with serving(grace_seconds=0.1) as server, ExitStack() as stack:
        connections = [stack.enter_context(sent(server)) for _ in range(5)]
        connections += [stack.enter_context(sent(server, LONG[:-1000])) for _ in range(2)]  # still sending
        server.wait_until_busy()
        server.ask_to_stop()
        assert [connection.answer().status for connection in connections] == [503] * len(connections)
        assert server.wait_for_end() == 0


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_loses_nothing_either() -> None:
    with started() as server:
        server.wait_until_ready()
        with many_accepted(server, 5) as connections:
            os.killpg(server.process.pid, signal.SIGINT)
            assert [connection.answer().status for connection in connections] == [200] * len(connections)
        assert server.wait_for_end() == 130
    assert "Traceback" not in server.log


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_at_once(stop: signal.Signals) -> None:
    with started() as server:
        server.wait_until_ready()
        with sent(server):
            server.wait_until_busy()
            server.process.send_signal(stop)
            server.wait_for_line("shutting down")
            began = time.monotonic()
            server.process.send_signal(stop)
            assert server.wait_for_end() == 128 + stop
        assert time.monotonic() - began < AT_ONCE_S
    assert "Traceback" not in server.log


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_stop_while_the_model_is_loaded_is_a_stop(stop: signal.Signals, status: int) -> None:
    with started() as server:
        server.wait_for_line("loading model")
        wait_until(lambda: len(server.engines()) == 1)
        os.kill(server.engines()[0], signal.SIGSTOP)  # it loads for ever
        server.process.send_signal(stop)
        assert server.wait_for_end() == status
    assert "Traceback" not in server.log


def test_a_killed_server_leaves_no_process_behind() -> None:
    with started() as server:
        server.wait_until_ready()
        with sent(server):
            server.wait_until_busy()
            server.process.kill()
            began = time.monotonic()
            assert server.wait_for_end() == -signal.SIGKILL  # and sees that nothing of its group lives
    assert time.monotonic() - began < 20  # measured: 0.1 s


# Starting.


def test_a_port_in_use_is_reported_in_one_line() -> None:
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
def test_an_invalid_setting_is_reported_in_one_line(settings: dict[str, str], message: str) -> None:
    with started(**settings) as server:
        assert server.wait_for_end() in (1, 2)
    assert "Traceback" not in server.log
    assert message in server.log.splitlines()[-1]


def test_where_no_media_worker_starts_the_server_ends_with_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = break_av("open", tmp_path, monkeypatch)
    with started() as server:
        assert server.wait_for_end() == 1
    assert re.search(rf"no media worker can be started: TypeError\(.{re.escape(cause)}", server.log), server.log
