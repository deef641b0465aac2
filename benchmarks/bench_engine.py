"""What the engine costs beside faster-whisper as it is: the figures of docs/performance.md.

    python -m benchmarks.bench_engine                    all rows, about an hour on two cores
    python -m benchmarks.bench_engine clip burst --rounds 9
    SOTTO_WORKERS=2 SOTTO_THREADS=1 python -m benchmarks.bench_engine burst

The models have real dimensions and a scripted answer, so that every contender decodes the same number of tokens.
Each contender lives in a fresh process and takes turns with the others. Where other programs share the machine,
trust ratios of CPU time more than ratios of wall time; the table has both. Linux only.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.engine_models import model_folder
from benchmarks.processes import ROOT, python_of, write_repeated
from benchmarks.speech_clips import TEN_MINUTES
from server.system.machine import usable_cpus

PAUSE_S = 0.5  # between what is compared: threads of the one before may spin on for a moment
CLIP_S, FULL_S = 5.0, 29.0
REQUESTS = 16
BEAMS = {"beam 5": 5, "greedy": 1}
IN_FLIGHT = 8
LONG_S, EVERY_S = 20.0, 3.0
SHORT_FILE_S = 600.0

Answer = dict[str, Any]


class Contender:
    """A process of `engine_contenders`, of this checkout or another; calling it runs one of its methods there."""

    def __init__(self, name: str, model: Path, threads: int, *, checkout: Path = ROOT) -> None:
        self._process = subprocess.Popen(
            [python_of(checkout), "-m", "benchmarks.engine_contenders", name, str(model), str(threads)],
            cwd=checkout,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Stock is as it comes, with as many threads of OpenBLAS's as there are cores; a server has one.
            env={
                "SOTTO_SPOOL_MB": "65536",
                **os.environ,
                "OPENBLAS_NUM_THREADS": str(os.cpu_count()) if name == "stock" else "1",
            },
        )

    def __call__(self, method: str, **arguments: object) -> Answer:
        assert self._process.stdin
        assert self._process.stdout
        time.sleep(PAUSE_S)
        print(json.dumps([method, arguments]), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the contender ended with {self._process.wait()} in {method}")
        answer: Answer = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self("close")
            self._process.communicate()
        else:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row needs: where models are built, how many rounds, how many threads (0: the default)."""

    cache: Path
    rounds: int
    threads: int
    hours: float

    def contender(self, name: str, model: Path) -> Contender:
        contender = Contender(name, model, self.threads)
        # The first window is slower. Not an interactive one: for a minute behind it bulk batches stay small.
        contender("windows", count=1)
        return contender

    def short(self) -> Path:
        """Answers a clip of 5 s."""
        return model_folder(self.cache, "tiny", tokens=16, end_s=4.4)

    def full(self, size: str = "tiny") -> Path:
        """Answers a window of half a minute."""
        return model_folder(self.cache, size, tokens=100, end_s=28.0)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table. `ratio` is what the goal is about."""

    name: str
    goal: str
    ratio: str
    remark: str


# Rows


def clip(bench: Bench) -> list[Figure]:
    """A lone clip: CPU time of stock faster-whisper over ours."""
    arguments = {"count": 1, "seconds": CLIP_S, "beam": 5}
    with bench.contender("stock", bench.short()) as stock, bench.contender("ours", bench.short()) as ours:
        theirs, mine = in_turns(
            bench.rounds, [partial(stock, "burst", **arguments), partial(ours, "burst", **arguments)]
        )
    same_texts(theirs, mine)
    cpu = f"{median(theirs, 'cpu_s'):.2f} s CPU against {median(mine, 'cpu_s'):.2f}"
    remark = f"{cpu}; wall time {paired(theirs, mine, 'wall_s'):.2f}"
    name = f"lone {CLIP_S:.0f} s clip, language auto, beam 5, tiny: CPU time stock / ours"
    return [Figure(name, ">= 2.5", f"{paired(theirs, mine, 'cpu_s'):.2f}", remark)]


def burst(bench: Bench) -> list[Figure]:
    """Clips of 5 s, all at once."""
    return together(bench, bench.short(), CLIP_S, {"beam 5": 5}, ">= 3")


def full(bench: Bench) -> list[Figure]:
    """Clips that fill a window, all at once."""
    return together(bench, bench.full(), FULL_S, BEAMS, ">= 2.2")


def together(bench: Bench, model: Path, seconds: float, beams: dict[str, int], goal: str) -> list[Figure]:
    """Stock behind a lock, ours, and ours without its engine: full batches by hand."""
    figures = []
    with bench.contender("stock", model) as stock, bench.contender("ours", model) as ours:
        for name, beam in beams.items():
            arguments = {"count": REQUESTS, "seconds": seconds, "beam": beam}
            ways = [
                partial(stock, "burst", **arguments),
                partial(ours, "burst", **arguments),
                partial(ours, "by_hand", **arguments),
            ]
            theirs, mine, by_hand = in_turns(bench.rounds, ways)
            same_texts(theirs, mine, by_hand)
            load = f"{REQUESTS} x {seconds:.0f} s clips, language auto, {name}"
            figures += [
                Figure(
                    f"{load}: throughput ours / stock behind a lock",
                    goal,
                    f"{paired(theirs, mine, 'wall_s'):.2f}",
                    f"CPU time {paired(theirs, mine, 'cpu_s'):.2f}; batches {mine[-1]['batches']}",
                ),
                Figure(
                    f"{load}: ours / the same model by hand",
                    ">= 0.95",
                    f"{paired(by_hand, mine, 'wall_s'):.2f}",
                    f"CPU time {paired(by_hand, mine, 'cpu_s'):.2f}",
                ),
            ]
    return figures


def file(bench: Bench) -> list[Figure]:
    """Ten minutes from the file to the segments, and as windows that are cut already."""
    whole, cut = {"path": str(TEN_MINUTES)}, {"count": round(SHORT_FILE_S / 30)}
    with bench.contender("stock", bench.full()) as stock, bench.contender("ours", bench.full()) as ours:
        bare, stamped, mine, their_windows, my_windows = in_turns(
            bench.rounds,
            [
                partial(stock, "file", **whole),
                partial(stock, "file_with_timestamps", **whole),
                partial(ours, "file", **whole),
                partial(stock, "windows", **cut),
                partial(ours, "windows", **cut),
            ],
        )
    seen = f"; {mine[-1]['windows']} windows in batches {mine[-1]['batches']} here, {bare[-1]['segments']} there"
    base = "10-minute file with timestamps and fallback / BatchedInferencePipeline(batch_size=8)"
    return [
        Figure(
            name,
            goal,
            f"{paired(theirs, ours_, 'wall_s'):.2f}",
            f"CPU time {paired(theirs, ours_, 'cpu_s'):.2f}" + (seen if theirs is bare else ""),
        )
        for name, goal, theirs, ours_ in (
            (base, ">= 1.3", bare, mine),
            (f"{base}, with timestamps", "", stamped, mine),
            (f"{base}, 20 windows already cut", "", their_windows, my_windows),
        )
    ]


def beside(bench: Bench) -> list[Figure]:
    """Clips that arrive while a long file runs; each round in a fresh process."""
    idle: list[float] = []
    busy: list[float] = []
    kept = []
    count = 8
    for _ in range(bench.rounds):
        with bench.contender("ours", bench.full()) as ours:
            alone = ours("long_file", seconds=LONG_S)["speed"]
            before = ours("clips", count=count, seconds=CLIP_S, every_s=0)
            mixed = ours("clips_beside_long_file", count=count, seconds=CLIP_S, every_s=EVERY_S)
            after = ours("clips", count=count, seconds=CLIP_S, every_s=0)
        idle += before["latencies"] + after["latencies"]
        busy += mixed["latencies"]
        # What the clips take of the machine: their CPU time when nothing else runs.
        taken = statistics.mean((before["cpu_s"], after["cpu_s"])) / (mixed["period_s"] * usable_cpus())
        kept.append(mixed["speed"] / (alone * (1 - taken)))
    remark = f"idle p95 {p95(idle):.2f} s, beside the file {p95(busy):.2f} s, {len(busy)} clips"
    return [
        Figure(
            "5 s clip beside a 2-hour file: p95 latency / idle p95", "<= 3", f"{p95(busy) / p95(idle):.2f}", remark
        ),
        Figure(
            "the long file's speed / alone, less what the clips take",
            ">= 0.8",
            f"{statistics.median(kept):.2f}",
            f"{min(kept):.2f} to {max(kept):.2f}",
        ),
    ]


def length(bench: Bench) -> list[Figure]:
    """CPU time per hour of audio, of a long file and of ten minutes, from the file to the segments."""
    model = model_folder(bench.cache, "micro", tokens=30, end_s=28.0)
    with tempfile.TemporaryDirectory() as folder, bench.contender("ours", model) as ours:
        short, long = (
            write_repeated(Path(folder, f"{seconds:.0f}.mp3"), seconds).path
            for seconds in (SHORT_FILE_S, bench.hours * 3600)
        )
        ours("file", path=str(short))
        before = [ours("file", path=str(short)) for _ in range(bench.rounds)]
        whole = ours("file", path=str(long))
        after = [ours("file", path=str(short)) for _ in range(bench.rounds)]
    per_hour = [3600 * one["cpu_s"] / one["duration_s"] for one in before + after]
    long_per_hour = 3600 * whole["cpu_s"] / whole["duration_s"]
    remark = f"{statistics.median(per_hour):.1f} s CPU an hour, {long_per_hour:.1f} s at {bench.hours:g} h; micro"
    name = f"CPU per hour of audio at {bench.hours:g} h / at 10 min"
    return [Figure(name, "<= 1.05", f"{long_per_hour / statistics.median(per_hour):.2f}", remark)]


def memory(bench: Bench) -> list[Figure]:
    """Resident memory of the process at its stages, small dimensions in int8."""
    with bench.contender("ours", bench.full("small")) as ours:
        mb = ours("memory", count=IN_FLIGHT)["mb"]
    stages = ", ".join(f"{stage} {value:.0f}" for stage, value in mb.items())
    return [
        Figure(f"memory, small, int8, {IN_FLIGHT} windows in flight, MB", "stated", f"{mb['peak']:.0f}", stages)
    ]


ROWS: dict[str, Callable[[Bench], list[Figure]]] = {
    row.__name__: row for row in (clip, burst, full, file, beside, length, memory)
}


# Measuring


def in_turns(rounds: int, ways: Sequence[Callable[[], Answer]]) -> list[list[Answer]]:
    """Each way's answers, taken round by round."""
    taken = [[way() for way in ways] for _ in range(rounds)]
    return [list(of_way) for of_way in zip(*taken, strict=True)]


def paired(ones: Sequence[Answer], others: Sequence[Answer], field: str) -> float:
    """Median over rounds of the ratio inside one round."""
    return statistics.median(
        float(one[field]) / float(other[field]) for one, other in zip(ones, others, strict=True)
    )


def median(answers: Sequence[Answer], field: str) -> float:
    return statistics.median(float(answer[field]) for answer in answers)


def p95(values: list[float]) -> float:
    """The nearest-rank percentile: of 20 values the second largest."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def same_texts(*contenders: Sequence[Answer]) -> None:
    texts = {tuple(answer["texts"]) for answers in contenders for answer in answers}
    assert len(texts) == 1, f"the contenders don't say the same: {texts}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the engine beside faster-whisper. Linux only.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="of each contender (default: 5)")
    parser.add_argument("--threads", type=int, default=0, help="of every contender (default: each one's default)")
    parser.add_argument("--hours", type=float, default=10, help="length of row `length`'s long file (default: 10)")
    parser.add_argument("--models", type=Path, help="keep the models that are built here (default: nowhere)")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.models or Path(folder), args.rounds, args.threads, args.hours)
        figures = []
        for row in args.rows or ROWS:
            for figure in ROWS[row](bench):
                figures.append(figure)
                print(f"{figure.name}: {figure.ratio} (goal {figure.goal}); {figure.remark}", file=sys.stderr)
    print("| figure | goal | measured | remark |\n|---|---|---|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.goal} | {figure.ratio} | {figure.remark} |")


if __name__ == "__main__":
    main()
