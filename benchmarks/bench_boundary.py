"""What the boundary between the server and an engine's process costs: the same windows on both sides of it.

    python -m benchmarks.bench_boundary [--model models/demo] [--rounds 15]

One engine lives in this process, another one behind a pipe; they take turns. Linux only.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import TICKS_PER_S
from benchmarks.speech_clips import clips, window_of
from server.engine.engine import Engine
from server.engine.interface import EngineLike
from server.engine.loader import WhisperLoader
from server.engine.supervisor import SupervisedEngine
from server.options import DecodingOptions, ModelOptions
from server.system.child_process import NICENESS
from server.transcript import Window, WindowResult

PAUSE_S = 0.3  # threads of the one before may spin on for a moment
LOADS = ((1, 5.0), (16, 5.0), (1, 29.0))  # windows at once, and their seconds


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, on both sides of the boundary together."""

    wall_s: float
    cpu_s: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_boundary", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/demo"), help="a model's folder")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    loader = WhisperLoader(args.model.resolve(), ModelOptions(device="cpu"))
    behind = SupervisedEngine(loader, args.model.name)
    behind.facts()
    os.nice(NICENESS)  # as the child: where others want the cores too, the comparison would be about that
    loaded = loader.load()
    here = Engine(loaded.model, loaded.limits)
    try:
        print(f"{args.model.name}, {args.rounds} rounds, medians; ratios: behind the boundary / in this process")
        for count, seconds in LOADS:
            report(count, seconds, *compared(here, behind, count, seconds, args.rounds))
    finally:
        here.close()
        behind.close()


def compared(
    here: EngineLike, behind: SupervisedEngine, count: int, seconds: float, rounds: int
) -> tuple[list[Spent], list[Spent]]:
    windows = [window_of(clip) for clip in clips(count, seconds)]
    life = behind._process
    assert life
    pids = [os.getpid(), life.pid]
    spent: tuple[list[Spent], list[Spent]] = ([], [])
    for _ in range(rounds + 1):
        for engine, into in zip((here, behind), spent, strict=True):
            time.sleep(PAUSE_S)
            into.append(measured(lambda engine=engine: run(engine, windows), pids))  # type: ignore[misc]
    return spent[0][1:], spent[1][1:]  # the first of each is slower


def run(engine: EngineLike, windows: list[Window]) -> None:
    options = DecodingOptions(language="en")
    futures: list[Future[WindowResult]] = [
        engine.submit(window, options, request=str(n), priority="interactive") for n, window in enumerate(windows)
    ]
    for future in futures:
        future.result()


def measured(work: Callable[[], None], pids: list[int]) -> Spent:
    began_s, cpu_s = time.perf_counter(), sum(map(cpu_of, pids))
    work()
    return Spent(time.perf_counter() - began_s, sum(map(cpu_of, pids)) - cpu_s)


def cpu_of(pid: int) -> float:
    if pid == os.getpid():
        return time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / TICKS_PER_S


def report(count: int, seconds: float, here: list[Spent], behind: list[Spent]) -> None:
    for field in ("wall_s", "cpu_s"):
        mine = [getattr(one, field) for one in here]
        theirs = [getattr(one, field) for one in behind]
        ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
        print(
            f"{count:3} x {seconds:4.0f} s, {field[:-2]:4}: {statistics.median(mine) * 1000:7.1f} ms here, "
            f"{statistics.median(theirs) * 1000:7.1f} ms behind, ratio {statistics.median(ratios):.3f}, "
            f"least {min(mine) * 1000:.1f} and {min(theirs) * 1000:.1f} ms"
        )


if __name__ == "__main__":
    main()
