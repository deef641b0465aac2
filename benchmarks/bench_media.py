"""What it costs to scan uploads (decode, find speech) in processes of their own rather than in the server's.

    python -m benchmarks.bench_media

Both take turns, so that they suffer alike from what else the machine does. Linux only: memory is read from /proc.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_decode import write_files
from benchmarks.processes import field_mb
from server.audio.media_decoder import FileScanner
from server.audio.messages import Decoded
from server.audio.scanner import Scanner
from server.audio.spool import Spool, SpoolBudget
from server.audio.workers import MediaWorkers
from server.options import ScanOptions, VadOptions
from server.system.machine import children_of
from server.system.scratch import ScratchFolder
from server.transcript import SAMPLE_RATE
from tests.support.bad_inputs import DATA

SHORT = DATA / "en_14.mp3"
TIMES = 20  # that a short file is scanned, one after the other
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures media workers beside scanning in this process.")
    parser.add_argument("--rounds", type=int, default=7, help="of each; medians count (default: 7)")
    rounds = parser.parse_args().rounds
    print(f"ready after {statistics.median(start_s() for _ in range(rounds)) * 1000:.0f} ms")
    with tempfile.TemporaryDirectory() as folder, ready() as workers:
        long = Path(folder, "ten_minutes.mp3")
        write_files(long, Path(folder, "none.mp3"), 0)
        scanner = Scanner()
        for path, times in ((long, 1), (SHORT, TIMES)):
            inside, outside = zip(
                *(
                    (cost(scanner, workers, path, times), cost(workers, workers, path, times))
                    for _ in range(rounds)
                ),
                strict=True,
            )
            report(path.name, inside, outside, times)
        print(f"the fork server: {field_mb(workers.pid, 'smaps_rollup', 'Pss'):.0f} MB PSS when alone")
        watch(workers, long)


@contextmanager
def ready() -> Iterator[MediaWorkers]:
    with closing(MediaWorkers(memory_bytes=512 << 20, timeout_s=30)) as workers:
        workers.wait_until_ready()
        yield workers


def start_s() -> float:
    began = time.perf_counter()
    with ready():
        return time.perf_counter() - began


def cost(scanner: FileScanner, workers: MediaWorkers, path: Path, times: int) -> Cost:
    """Of `times` scans by `scanner`, one after the other; `workers` says whose CPU time counts too."""
    began, cpu_s = time.perf_counter(), all_cpu_s(workers)
    for _ in range(times):
        list(scan(scanner, path))
    return Cost(time.perf_counter() - began, all_cpu_s(workers) - cpu_s)


def scan(scanner: FileScanner, path: Path) -> Iterator[float]:
    """Seconds of audio reached, as it goes."""
    with (
        path.open("rb") as file,
        closing(ScratchFolder()) as scratch,
        closing(Spool(SpoolBudget(1 << 30), scratch)) as spool,
    ):
        options = ScanOptions(VadOptions(), limit_s=43_200)
        for message in scanner.scan(file.fileno(), spool, options, threading.Event()):
            if isinstance(message, Decoded):
                yield message.samples / SAMPLE_RATE


def all_cpu_s(workers: MediaWorkers) -> float:
    """Of this process, of the fork server and of all workers that have ended."""
    fields = Path(f"/proc/{workers.pid}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:15])) / TICKS_PER_S  # utime, stime, cutime, cstime


def report(name: str, inside: Sequence[Cost], outside: Sequence[Cost], times: int) -> None:
    for field in ("wall_s", "cpu_s"):
        here, there = (statistics.median(getattr(cost, field) for cost in costs) for costs in (inside, outside))
        print(
            f"{name}, {field.removesuffix('_s')}: {here / times * 1000:.1f} ms in this process, "
            f"{there / times * 1000:.1f} ms in a worker, ratio {there / here:.2f}"
        )


def watch(workers: MediaWorkers, path: Path) -> None:
    """What a worker has of memory in the middle of a long file."""
    base_mb = field_mb(workers.pid, "status", "VmSize")
    for reached_s in scan(workers, path):
        if reached_s >= 300:
            (pid,) = children_of(workers.pid)
            print(
                f"a worker after {reached_s:.0f} s of audio: {field_mb(pid, 'smaps_rollup', 'Pss'):.0f} MB PSS, "
                f"{field_mb(pid, 'smaps_rollup', 'Private_Dirty'):.0f} MB its own, "
                f"address space {field_mb(pid, 'status', 'VmPeak') - base_mb:.0f} MB above its parent's"
            )
            return


if __name__ == "__main__":
    main()
