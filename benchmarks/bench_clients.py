"""What clients cost who ask all the time: requests a second, CPU time and memory, by how many there are.

    python -m benchmarks.bench_clients --concurrency 1 4 16 --seconds 5 --requests 96

One server for all rounds. Each client sends its next recording when it has the answer to its last one.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2

from benchmarks.processes import ServerProcess, transcribe, write_wav
from server.commands.bench import percentile

SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Round:
    """`seconds` to each answer, in order; time of the whole; the highest memory (PSS)."""

    seconds: Sequence[float]
    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Measures the server under clients that ask all the time. Linux only."
    )
    parser.add_argument("--model", default="demo", help="name or folder (default: demo)")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16], help="default: 1 4 16")
    parser.add_argument("--seconds", type=float, default=5, help="length of each recording (default: 5)")
    parser.add_argument("--requests", type=int, default=96, help="of each round (default: 96)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "speech.wav"
        write_wav(recording, args.seconds)
        with ServerProcess(Path(folder), args.model) as server:
            measure(server, recording, max(args.concurrency), args.requests)  # caches and allocators fill
            idle_mb = server.memory().pss
            print(f"{args.seconds:g} s of speech, {args.requests} times each; idle {idle_mb:.0f} MB")
            for clients in args.concurrency:
                report(clients, args.seconds, idle_mb, measure(server, recording, clients, args.requests))


def measure(server: ServerProcess, recording: Path, clients: int, requests: int) -> Round:
    done = threading.Event()
    with (
        httpx2.Client(limits=httpx2.Limits(max_connections=clients)) as client,
        ThreadPoolExecutor(clients + 1) as pool,
    ):

        def ask(_: int) -> float:
            began = time.perf_counter()
            transcribe(client, server, recording)
            return time.perf_counter() - began

        watching = pool.submit(peak_mb, server, done)
        cpu_s, began = server.cpu_s(), time.perf_counter()
        seconds = list(pool.map(ask, range(requests)))
        wall_s = time.perf_counter() - began
        done.set()
        return Round(sorted(seconds), wall_s, server.cpu_s() - cpu_s, watching.result())


def peak_mb(server: ServerProcess, done: threading.Event) -> float:
    highest = 0.0
    while not done.wait(SAMPLE_S):
        highest = max(highest, server.memory().pss)
    return highest


def report(clients: int, audio_s: float, idle_mb: float, measured: Round) -> None:
    count = len(measured.seconds)
    median, p95 = percentile(measured.seconds, 0.5), percentile(measured.seconds, 0.95)
    print(
        f"{clients} clients: {count / measured.wall_s:.1f} requests/s, {count * audio_s / measured.wall_s:.0f} x "
        f"real time, CPU {measured.cpu_s / count:.2f} s a request; answers after {median:.2f} s (median), "
        f"{p95:.2f} s (p95); {measured.peak_mb - idle_mb:+.0f} MB"
    )


if __name__ == "__main__":
    main()
