"""The fork server of the media workers: a clean, warmed-up interpreter with a single thread.

It reads no file itself. Each file gets its own worker, which exits with it, so no file affects another.
Started by `workers.MediaWorkers`; when that closes a worker's channel, the worker is killed.
"""

import gc
import os
import select
import signal
import socket
import threading
import wave
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from server.audio.messages import (
    READY,
    RESUME,
    Ended,
    Message,
    Paused,
    ScanRequest,
    Started,
    decode_request,
    encode,
    failure,
)
from server.audio.spool import SpoolFile
from server.options import ScanOptions, VadOptions
from server.system.child_process import attach
from server.system.sandbox import confine, end_with, keep_only
from server.transcript import SAMPLE_BYTES, SAMPLE_RATE

if TYPE_CHECKING:
    from server.audio.scanner import Scanner

FURTHER_NICENESS = 10  # added after the first turn: behind files that have just begun, and behind the model
OOM_SCORE_ADJ = "500"  # of 1000: when memory runs out, kill a worker before the server
MAX_REQUEST_BYTES = 4096
MELS = (80, 128)  # bands of all of Whisper's models
FILES = 3  # sent with each request: the worker's channel, the upload, the spool


class ForkServer:
    """Forks a worker for each request that arrives on `control`, and reports how it ended."""

    def __init__(self, control: socket.socket, scanner: "Scanner") -> None:
        self._control = control
        self._scanner = scanner
        self._channels: dict[int, socket.socket] = {}  # by process id of the worker
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._watch(control.fileno(), select.POLLIN, self._handle_request)
        self._deaths, wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self._watch(self._deaths, select.POLLIN, self._reap)

    def run(self) -> None:
        """Serve requests until `control` is closed."""
        while self._watched:
            # One event at a time: the next one may concern a file descriptor that this one closes or reuses.
            fd, _ = self._poll.poll()[0]
            self._watched[fd]()

    def _watch(self, fd: int, events: int, act: Callable[[], None]) -> None:
        self._poll.register(fd, events)
        self._watched[fd] = act

    def _forget(self, fd: int) -> None:
        if self._watched.pop(fd, None):
            self._poll.unregister(fd)

    def _handle_request(self) -> None:
        order, files, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, FILES)
        if not order:
            return self._watched.clear()
        channel = socket.socket(fileno=files[0])
        try:
            self._fork(channel, files, decode_request(order))
        except OSError:  # the process limit is reached
            _tell_if_possible(channel, Ended(None))
            channel.close()
        for file in files[1:]:
            os.close(file)

    def _fork(self, channel: socket.socket, files: list[int], order: ScanRequest) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                end_with(parent)
                _work(self._scanner, order, *keep_only(*files))
            finally:
                os._exit(0)
        self._channels[pid] = channel
        # The requester closes its end once it has the result, or no longer wants one.
        self._watch(channel.fileno(), select.POLLRDHUP, partial(self._kill, pid))

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self._forget(self._channels[pid].fileno())

    def _reap(self) -> None:
        os.read(self._deaths, MAX_REQUEST_BYTES)
        while self._channels:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            channel = self._channels.pop(pid)
            self._forget(channel.fileno())
            _tell_if_possible(channel, Ended(os.waitstatus_to_exitcode(status)))
            channel.close()


def usual() -> "Scanner":
    """Import late, so that a library that fails to load can be reported."""
    from server.audio.scanner import Scanner

    return Scanner()


def main(make_scanner: "Callable[[], Scanner]" = usual) -> None:
    channel, _ = attach(thread=False)
    try:
        scanner = _prepared(make_scanner)
    except Exception as error:  # reported to the server as the reason why no worker starts
        with suppress(OSError):
            channel.send(encode(failure(error)))
        raise
    with suppress(OSError):  # the server may have gone
        channel.send(READY)
    ForkServer(channel, scanner).run()
    os._exit(0)


def _prepared(make_scanner: "Callable[[], Scanner]") -> "Scanner":
    scanner = make_scanner()
    _warm_up(scanner)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJ)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a library has started a thread, which would be missing in every worker")
    gc.freeze()  # what is loaded stays in memory, shared with the workers
    return scanner


def _work(scanner: "Scanner", order: ScanRequest, channel: int, upload: int, spool: int) -> None:
    """In a worker: scan the upload and report the results."""
    connection = socket.socket(fileno=channel)
    connection.send(encode(Started(os.getpid())))
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + FURTHER_NICENESS
    try:
        confine(order.limits)
        for message in scanner.scan(upload, SpoolFile(spool), order.options, threading.Event()):
            connection.send(encode(message))
            if isinstance(message, Paused) and not _pause(connection, niceness):
                return
    except Exception as error:  # the boundary of a process: every error is reported to the request
        connection.send(encode(failure(error)))


def _pause(channel: socket.socket, niceness: int) -> bool:
    """Wait for the next turn, which runs at `niceness`; False if there is none."""
    os.setpriority(os.PRIO_PROCESS, 0, niceness)  # above 19, 19 is taken
    return channel.recv(len(RESUME)) == RESUME


def _tell_if_possible(channel: socket.socket, message: Message) -> None:
    with suppress(OSError):
        channel.send(encode(message), socket.MSG_DONTWAIT)


def _warm_up(scanner: "Scanner") -> None:
    """Scan a short sound, so that lazy imports are done: a worker can't open files."""
    with open(os.memfd_create("sound"), "w+b") as file, open(os.memfd_create("spool"), "w+b") as spool:
        with wave.open(file, "wb") as sound:
            sound.setparams((1, SAMPLE_BYTES, SAMPLE_RATE, 0, "NONE", ""))
            sound.writeframes(bytes(SAMPLE_RATE * SAMPLE_BYTES))
        for mels in MELS:
            options = ScanOptions(VadOptions(), limit_s=10.0, mels=mels)
            list(scanner.scan(file.fileno(), SpoolFile(spool.fileno()), options, threading.Event()))


if __name__ == "__main__":
    main()
