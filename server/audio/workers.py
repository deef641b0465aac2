"""Media workers, seen from the main process: files are sent to them, messages come back and are validated.

Knows processes and sockets; neither audio nor its libraries, which only the workers load.
"""

import logging
import math
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from typing import NoReturn

from server.audio.messages import (
    MAX_MESSAGE_BYTES,
    READY,
    Done,
    Ended,
    Failed,
    InvalidMessage,
    Message,
    MessageOrder,
    ScanRequest,
    decode,
    encode_request,
    error_of,
    receive,
)
from server.audio.spool import Spool
from server.errors import Unavailable, UndecodableAudio
from server.options import ScanOptions
from server.stats import MediaEnd, MediaStats
from server.system.child_process import ChildProcess, clean_environment, described
from server.system.machine import children_of
from server.system.sandbox import ProcessLimits
from server.transcript import SAMPLE_BYTES, SAMPLE_RATE

START_S = 60.0
END_S = 2.0  # for a worker to exit
NOTICE_S = 0.5  # for the exit of the fork server to become visible, after that of its worker
TICK_S = 0.1  # between checks for cancellation
SLOWEST = 20  # times real time, in CPU time; the usual speed is ten times that
LONGEST_S = 1e6  # of audio: limits have to be finite

ENDS: dict[int | None, MediaEnd] = {None: "no_process", -signal.SIGXCPU: "cpu_time"}  # any other status: crashed
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # forking is unsafe with more

logger = logging.getLogger(__name__)


class WorkerLost(Exception):
    """A worker ended without a result, because of its file or of an outside cause."""


class ForkServerLost(WorkerLost):
    """The fork server ended, and all workers with it; no file caused it."""


class MediaWorkers:
    """Scans files in processes of their own, forked from a fork server that is restarted if it ends."""

    def __init__(self, *, memory_bytes: int, timeout_s: float, module: str = "server.audio.fork_server") -> None:
        """Each worker may use `memory_bytes`, and may go `timeout_s` seconds without progress."""
        self._module = module
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._ended: Counter[MediaEnd] = Counter()
        self._forker, self._ready = self._start(), False

    @property
    def is_ready(self) -> bool:
        return self._ready and self._forker.status is None

    def wait_until_ready(self) -> None:
        """Wait until files can be scanned; raises `Unavailable` if they can't be or a start is in progress."""
        if not self._lock.acquire(blocking=False):  # frequent callers must not fill the thread pool with waiting
            raise _not_now("the media workers are starting")
        try:
            self._ready_forker()
        finally:
            self._lock.release()

    def scan(self, source: int, spool: Spool, options: ScanOptions, stop: threading.Event) -> Generator[Message]:
        """As `Scanner.scan`, in a worker; ends silently when `stop` is set. Also raises `WorkerLost`."""
        course = MessageOrder(options.vad.window_s)
        try:
            channel, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        except OSError as error:
            raise _not_now(error.strerror) from error
        channel.settimeout(TICK_S)
        try:
            with theirs:
                forker = self._order(options, theirs.fileno(), source, spool.fileno())
            for message in self._messages(forker, channel, stop):
                if isinstance(message, Failed):
                    self._ended["memory"] += message.reason == "no_memory"
                    raise error_of(message, options.limit_s)
                course.check(message, spool.written)
                yield message
        except InvalidMessage as error:
            self._ended["invalid_message"] += 1
            logger.warning("a media worker sent an invalid message: %s", error)
            raise UndecodableAudio from error
        finally:
            _hang_up(channel)

    def stats(self) -> MediaStats:
        return MediaStats((self.pid, *children_of(self.pid)), dict(self._ended))

    def close(self) -> None:
        with self._lock:
            self._forker.close()

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._forker.pid

    def _start(self) -> ChildProcess:
        environment = clean_environment() | ONE_THREAD
        return ChildProcess(self._module, environment=environment, kind=socket.SOCK_SEQPACKET)

    def _order(self, options: ScanOptions, *files: int) -> ChildProcess:
        """Have a worker forked; returns the fork server that does it."""
        order = encode_request(ScanRequest(options, self._limits(options.limit_s)))
        with self._lock:
            forker = self._ready_forker()
            try:
                socket.send_fds(forker.channel, [order], files)
            except OSError as error:
                _end_forker(forker)
                raise ForkServerLost("the fork server has ended") from error
        return forker

    def _limits(self, limit_s: float) -> ProcessLimits:
        longest_s = min(limit_s, LONGEST_S)
        return ProcessLimits(
            memory_bytes=self._memory_bytes,
            cpu_s=math.ceil(self._timeout_s + longest_s / SLOWEST),
            file_bytes=math.ceil(longest_s + 1) * SAMPLE_RATE * SAMPLE_BYTES,
        )

    def _ready_forker(self) -> ChildProcess:
        """With the lock held: the fork server, restarted if it has ended."""
        if self._forker.status is not None:
            self._ended["fork_server"] += 1
            logger.warning(
                "the fork server of the media workers ended (status %d); starting another", self._forker.status
            )
            self._forker.close()
            try:
                self._forker, self._ready = self._start(), False
            except OSError as error:
                raise _not_now(error.strerror) from error
        if not self._ready and (cause := _obstacle(self._forker)):
            _end_forker(self._forker)
            raise _not_now(f"no media worker can be started: {cause}")
        self._ready = True
        return self._forker

    def _messages(self, forker: ChildProcess, channel: socket.socket, stop: threading.Event) -> Generator[Message]:
        """The messages of a worker, up to its result."""
        begun = False
        deadline = time.monotonic() + self._timeout_s
        while not stop.is_set():
            try:
                message = receive(channel)
            except TimeoutError:
                if time.monotonic() > deadline:
                    self._give_up(forker, begun=begun)
                continue
            match message:
                case None:
                    self._ended["crashed"] += 1
                    if forker.wait(NOTICE_S) is not None:  # a second attempt needs a new one
                        raise ForkServerLost("the fork server has ended")
                    raise WorkerLost("it closed the connection")
                case Ended(status):
                    self._ended[ENDS.get(status, "crashed")] += 1
                    raise _end(status)
            yield message
            if isinstance(message, Done | Failed):
                return
            begun = True
            deadline = time.monotonic() + self._timeout_s

    def _give_up(self, forker: ChildProcess, *, begun: bool) -> NoReturn:
        if begun:
            self._ended["stalled"] += 1
            raise UndecodableAudio(
                f"Decoding it made no progress for {self._timeout_s:g} seconds (SOTTO_MEDIA_TIMEOUT_SECONDS)."
            )
        _end_forker(forker)
        raise ForkServerLost("it forked no worker")


def _end_forker(forker: ChildProcess) -> None:
    """Kill it, so that the next caller finds it dead and starts another."""
    forker.kill()
    forker.wait(NOTICE_S)


def _obstacle(forker: ChildProcess) -> str:
    """The reason why `forker` is not ready, in its own words if it gave any; empty once it is ready."""
    forker.channel.settimeout(START_S)
    try:
        said = forker.channel.recv(MAX_MESSAGE_BYTES)
        if said == READY:
            return ""
        status = forker.wait(NOTICE_S)  # its traceback is in the log
        if said and isinstance(message := decode(said), Failed):
            return message.detail or message.reason
    except (OSError, InvalidMessage) as error:
        return str(error)
    return "it closed the connection" if status is None else described(status)


def _end(status: int | None) -> Exception:
    """The error for a worker that ended with `status` before it had a result."""
    if status is None:
        return _not_now("the system has no processes left")
    if status == -signal.SIGXCPU:
        return UndecodableAudio("Decoding it takes too much CPU time.")
    return WorkerLost(f"it ended with status {status}")


def _not_now(why: str | None) -> Unavailable:
    return Unavailable(f"Audio can't be decoded at the moment: {why}.")


def _hang_up(channel: socket.socket) -> None:
    """Have the worker killed, and wait until it has exited."""
    end = time.monotonic() + END_S
    with channel, suppress(OSError):
        channel.shutdown(socket.SHUT_WR)
        channel.settimeout(END_S)
        while channel.recv(MAX_MESSAGE_BYTES) and time.monotonic() < end:
            pass
