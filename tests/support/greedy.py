"""Clients that ask for more than their share, and the recordings that they send."""

import http.client
import io
import random
import select
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache

import av
import numpy as np
from av.audio.frame import AudioFrame

from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until
from tests.support.serving import Running
from tests.support.wire import Connection, field, file, form

RATE = 1_000  # Hz
POLL_S = 0.05
LONG_S = 43_000  # nearly twelve hours, the longest that is accepted


@cache
def long_file(frame: int = 192) -> bytes:
    """A FLAC of nearly twelve hours of silence: 3 MB with frames of 192 samples, 10 kB with frames of 65535."""
    samples = AudioFrame.from_ndarray(np.zeros((1, frame), np.int16), "s16", "mono")
    samples.sample_rate = RATE
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as output:
        track = output.add_stream("flac", rate=RATE, layout="mono", options={"frame_size": str(frame)})
        for start in range(0, LONG_S * RATE - frame, frame):
            samples.pts = start
            output.mux(track.encode(samples))
        output.mux(track.encode(None))
    return buffer.getvalue()


def body_of(audio: bytes) -> bytes:
    return form(field("model", "whisper-1"), file(audio))


def sent(server: Running, body: bytes, key: str, *, length: int = 0) -> Connection:
    """A connection with a request whose answer is still to be read; `length` is declared in place of the body's."""
    connection = Connection(server.base_url)
    authorization = {"Authorization": f"Bearer {key}"}
    try:
        connection.send_head({"Content-Length": str(length or len(body)), **authorization})
        connection.send(body)
    except OSError:
        connection.socket.close()
        raise
    return connection


def readable(connections: Sequence[Connection], wait_s: float = 0.0) -> list[Connection]:
    """Those of `connections` that have been answered or closed."""
    return select.select(connections, [], [], wait_s)[0]


@contextmanager
def long_files(server: Running, keys: Sequence[str], audio: bytes) -> Iterator[None]:
    """Long files, one of each of `keys` (with repetitions), which are being decoded until the block ends."""
    body, key = body_of(audio), keys[0] if keys else ""
    with ExitStack() as stack:
        for each in keys:
            stack.enter_context(sent(server, body, each))
        wait_until(lambda: not keys or server.metric("sotto_requests", key=key) == len(keys))
        wait_until(lambda: not keys or server.metric("sotto_uploads", key=key) == 0)
        yield
    wait_until(lambda: not keys or server.metric("sotto_requests", key=key) == 0)


class Greedy:
    """A client that keeps `SLOTS` requests open, of kinds by chance, and asks anew as soon as one is answered."""

    SLOTS = 8

    def __init__(self, server: Running, key: str, seed: int) -> None:
        self.statuses: Counter[int] = Counter()
        self._server = server
        self._key = key
        self._chance = random.Random(seed)  # noqa: S311
        self._stop = threading.Event()
        self._open: list[Connection] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._open:
            connection.socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            if len(self._open) < self.SLOTS:
                with suppress(OSError):  # the server has rejected it and waits no longer for its end
                    self._open.append(self._ask())
            for connection in readable(self._open, POLL_S):
                self._open.remove(connection)
                with connection, suppress(OSError, http.client.HTTPException):
                    self.statuses[connection.answer().status] += 1

    def _ask(self) -> Connection:
        kinds: list[Callable[[], Connection]] = [
            lambda: self._send(body_of(long_file())),
            lambda: self._send(body_of(long_file(65_535))),
            lambda: self._send(body_of((DATA / "en_00.wav").read_bytes())),
            lambda: self._send(body_of((DATA / "two_minutes.mp3").read_bytes())),
            lambda: self._send(b"-", length=1 << 30),  # and nothing more of it
            lambda: self._send(form(field("prompt", "x" * (8 << 20)))[:-99], length=9 << 20),
        ]
        return self._chance.choice(kinds)()

    def _send(self, body: bytes, *, length: int = 0) -> Connection:
        return sent(self._server, body, self._key, length=length)
