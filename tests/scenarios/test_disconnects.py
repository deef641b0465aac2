"""Clients that hang up: in every phase of a request it ends, and what it held is free again."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from server.options import SMALL_BYTES
from tests.support.bad_inputs import DATA, days_of_silence, wav
from tests.support.fakes import wait_until
from tests.support.serving import Running, serving
from tests.support.wire import Connection, field, file, form

SPEECH = "en_02.wav"
LONG = (DATA / "ten_minutes.ogg").read_bytes()
SOON_S = 20.0  # twenty times the goal

Phase = Callable[[Running, str], AbstractContextManager[Connection]]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One file is decoded at a time."""
    with serving(media_workers=1, max_queue_seconds=1e6) as running:
        yield running


@contextmanager
def client(server: Running, audio: bytes, stream: str, share: float = 1.0) -> Iterator[Connection]:
    """One that has sent a share of its request."""
    body = form(field("model", "whisper-1"), field("stream", stream), file(audio))
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body))})
        connection.send(body[: int(len(body) * share)])
        yield connection


@contextmanager
def uploading(server: Running, stream: str) -> Iterator[Connection]:
    with client(server, LONG, stream, 0.9) as connection:
        wait_until(lambda: server.metric("sotto_uploads") == 1)
        yield connection


@contextmanager
def decoding(server: Running, stream: str) -> Iterator[Connection]:
    with client(server, days_of_silence(1), stream) as connection:
        wait_until(lambda: server.metric("sotto_spool_bytes") > 0)
        yield connection


@contextmanager
def waiting_for_the_model(server: Running, stream: str) -> Iterator[Connection]:
    (engine,) = server.engines()
    os.kill(engine, signal.SIGSTOP)
    try:
        with client(server, LONG, stream) as connection:
            wait_until(lambda: server.queue()[0] > 0)
            yield connection
    finally:
        os.kill(engine, signal.SIGCONT)


@contextmanager
def streaming(server: Running, stream: str) -> Iterator[Connection]:
    with client(server, LONG, stream) as connection:
        server.wait_until_busy()
        yield connection


def held(server: Running) -> tuple[float, float, float, int]:
    """Requests, bytes of uploads and of decoded audio, files on disk."""
    series = (server.metric(f"sotto_{name}") for name in ("requests", "upload_bytes", "spool_bytes"))
    return (*series, server.open_files("(deleted)"))  # type: ignore[return-value]


@pytest.mark.parametrize("stream", ["false", "true"], ids=["whole", "stream"])
@pytest.mark.parametrize("phase", [uploading, decoding, waiting_for_the_model, streaming])
def test_a_disconnect_frees_everything(server: Running, phase: Phase, stream: str) -> None:
    before = held(server)
    assert before[:3] == (0, 0, 0)
    with phase(server, stream):
        assert held(server)[:2] > (0, 0)
    wait_until(lambda: held(server) == before, SOON_S)
    server.wait_until_idle()
    assert server.transcribe(SPEECH).status_code == 200


def test_a_disconnect_while_reading_frees_everything(server: Running) -> None:
    before = held(server)
    with client(server, LONG, "true") as connection:
        came = b""
        while b"transcript.text.delta" not in came:
            part = connection.socket.recv(1 << 16)
            assert part, came
            came += part
        assert held(server)[0] == 1
    wait_until(lambda: held(server) == before, SOON_S)
    server.wait_until_idle()


@pytest.mark.parametrize("stream", ["false", "true"], ids=["whole", "stream"])
def test_a_disconnect_while_queued_for_a_decoder_ends_at_once(server: Running, stream: str) -> None:
    large = wav(bytes(SMALL_BYTES + 1))  # waits for its client's first file; small ones don't
    with decoding(server, "false") as other:
        with client(server, large, stream):
            wait_until(lambda: (server.metric("sotto_requests"), server.metric("sotto_uploads")) == (2, 0))
            on_disk = server.metric("sotto_upload_bytes")
        wait_until(lambda: server.metric("sotto_requests") == 1, SOON_S)
        assert server.metric("sotto_upload_bytes") < on_disk
        other.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.socket.recv(1)  # it is being decoded all the while
    wait_until(lambda: server.metric("sotto_requests") == 0)
