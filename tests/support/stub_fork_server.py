"""Media workers that can be told to misbehave: an upload that begins with `!` is a command, others are scanned."""

import ctypes
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator

import numpy as np

from server.audio.decode import BLOCK_SAMPLES
from server.audio.fork_server import main
from server.audio.messages import Decoded, Message, WindowFound
from server.audio.scanner import Scanner
from server.audio.spool import SpoolFile
from server.errors import UndecodableAudio
from server.options import ScanOptions
from server.transcript import SAMPLE_RATE, Span, Window

CHANNEL = 3  # its number in a worker
BLOCK = np.ones(BLOCK_SAMPLES, np.int16)


class Misbehaving(Scanner):
    def scan(
        self, source: int, spool: SpoolFile, options: ScanOptions, stop: threading.Event
    ) -> Generator[Message]:
        data = os.pread(source, 1 << 16, 0)
        if not data.startswith(b"!"):
            yield from super().scan(source, spool, options, stop)
            return
        yield from _advance(spool)
        command, _, argument = data[1:].decode().partition(" ")
        COMMANDS[command](argument)


def _advance(spool: SpoolFile) -> Iterator[Message]:
    """Ten seconds of audio, and a window of its first."""
    number = spool.samples // BLOCK_SAMPLES
    spool.append(BLOCK)
    yield Decoded(spool.samples)
    start = number * BLOCK_SAMPLES
    yield WindowFound(Window(number, (Span(start, start + SAMPLE_RATE),)))


def _sleep(_: str = "") -> None:
    time.sleep(600)


def _hold_the_interpreter(_: str) -> None:
    re.match("(a+)+$", "a" * 60 + "b")


def _allocate(_: str) -> None:
    kept = [bytes(1 << 20)]
    while True:
        kept.append(bytes(1 << 20))


def _hang_up(_: str) -> None:
    socket.socket(fileno=CHANNEL).shutdown(socket.SHUT_RDWR)
    _sleep()


def _send(packets: str) -> None:
    """Packets in hexadecimal, and nothing more."""
    for packet in packets.split():
        os.write(CHANNEL, bytes.fromhex(packet))
    _sleep()


def _flood(packet: str) -> None:
    while True:
        os.write(CHANNEL, packet.encode())


def _fail(_: str) -> None:
    raise RuntimeError("no\nway" + "!" * 999)


def _break_out(argument: str) -> None:
    """Tells, as the file's error, all that could be done which must not be."""
    request = json.loads(argument)
    path, port, process = request["path"], request["port"], request["process"]

    def connect() -> None:
        socket.create_connection(("127.0.0.1", port))

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    attempts: dict[str, Callable[[], object]] = {
        "read": lambda: os.open(path, os.O_RDONLY),
        "list": lambda: os.listdir("/"),
        "write": lambda: os.open(path + ".new", os.O_WRONLY | os.O_CREAT),
        "unlink": lambda: os.unlink(path),
        "memory": lambda: os.open(f"/proc/{process}/mem", os.O_RDWR),
        "udp": lambda: socket.socket(type=socket.SOCK_DGRAM),
        "connect": connect,
        "signal": lambda: os.kill(process, signal.SIGCONT),
        "fork": fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    }
    os.close(0)  # to make room, if room were what is missing
    done = [name for name, attempt in attempts.items() if _succeeds(attempt)]
    done += [name for name in os.environ if name.startswith(("SOTTO", "HF"))]
    raise UndecodableAudio(f"Done: {done}")


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


COMMANDS: dict[str, Callable[[str], None]] = {
    "crash": lambda _: ctypes.string_at(0),  # type: ignore[dict-item]
    "abort": lambda _: os.abort(),
    "exit": lambda _: os._exit(0),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "overtime": lambda _: os.kill(os.getpid(), signal.SIGXCPU),
    "sleep": _sleep,
    "stick": _hold_the_interpreter,
    "allocate": _allocate,
    "hang-up": _hang_up,
    "send": _send,
    "flood": _flood,
    "fail": _fail,
    "break-out": _break_out,
}


if __name__ == "__main__":
    main(Misbehaving)
