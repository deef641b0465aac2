"""What tiny chunks of a chunked upload cost the server, beside the same bytes on the wire in large chunks.

    python -m benchmarks.bench_chunks

For each kind of client: CPU time of the server, the polling of /health included, and the longest that an answer of
/health took meanwhile. Linux only.
"""

import argparse
import socket
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from urllib.parse import urlsplit

import httpx2

from benchmarks.processes import ServerProcess

KEY = "benchmark"
WIRE_BYTES = 1_200_000  # of each connection
LARGE = 64 << 10
START = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'  # of a form that is read on
SEND_BYTES = 64 << 10
POLL_S = 0.02
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Load:
    """Connections at once, with or without a valid key."""

    name: str
    connections: int
    key: str


LOADS = (
    Load("no key, 1 connection", 1, ""),
    Load("no key, 8 connections", 8, ""),
    Load("key, 1 connection", 1, KEY),
    Load("key, 4 connections", 4, KEY),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: CPU time of the server, and the longest wait for /health."""

    cpu_s: float
    health_s: float

    def __str__(self) -> str:
        return f"{self.cpu_s:.2f} s, {self.health_s:.2f} s"


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.bench_chunks", description=__doc__).parse_args()
    tiny = chunk(b"x") * (WIRE_BYTES // len(chunk(b"x")))
    large = chunk(b"x" * LARGE) * (WIRE_BYTES // LARGE)
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), api_keys=KEY) as server:
        idle = measured(server, lambda: sleep(2))
        print(f"idle, 2 s: {idle}")
        print("| CPU time, longest /health | one-byte chunks | 64 KiB chunks |\n| --- | --- | --- |")
        for load in LOADS:
            costs = [measured(server, partial(send, server.url, load, wire)) for wire in (tiny, large)]
            print(
                f"| {load.name}, {load.connections * WIRE_BYTES / 1e6:.1f} MB |", *(f"{cost} |" for cost in costs)
            )


def measured(server: ServerProcess, work: Callable[[], object]) -> Cost:
    """Do `work` while /health is polled."""
    done, waits = threading.Event(), [0.0]

    def poll() -> None:
        with httpx2.Client(trust_env=False, timeout=PATIENCE_S) as client:
            while not done.is_set():
                began = perf_counter()
                client.get(f"{server.url}/health").raise_for_status()
                waits.append(perf_counter() - began)
                sleep(POLL_S)

    polling = threading.Thread(target=poll)
    before = server.cpu_s()
    polling.start()
    try:
        work()
    finally:
        done.set()
        polling.join()
    return Cost(server.cpu_s() - before, max(waits))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def send(url: str, load: Load, wire: bytes) -> None:
    with ThreadPoolExecutor(load.connections) as threads:
        list(threads.map(lambda _: send_one(url, load.key, wire), range(load.connections)))


def send_one(url: str, key: str, wire: bytes) -> None:
    """Send all of `wire`, or as much as the server takes, and read until it closes."""
    address = urlsplit(url)
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    connection = socket.create_connection((address.hostname, address.port), PATIENCE_S)
    with connection, suppress(ConnectionError):
        connection.sendall(head.encode() + chunk(START))
        for start in range(0, len(wire), SEND_BYTES):
            connection.sendall(wire[start : start + SEND_BYTES])
        connection.sendall(b"0\r\n\r\n")
        while connection.recv(1 << 16):
            pass


if __name__ == "__main__":
    main()
