"""What a change costs: servers and engines of two checkouts in turns, and the ratio of new to old.

    git worktree add ../before COMMIT && make -C ../before .venv/.dev
    python -m benchmarks.bench_checkouts ../before
    python -m benchmarks.bench_checkouts ../before startup clips --model models/base --rounds 15

New is this checkout. Each round measures both, in alternating order, and gives one ratio. The median of the ratios
counts: it holds where other programs share the machine. CPU time and memory are those of all the processes of a
server together. Linux only.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2

from benchmarks.bench_clients import measure
from benchmarks.bench_engine import Contender
from benchmarks.processes import ROOT, ServerProcess, transcribe, write_wav
from server.models.catalog import data_path

Figures = Mapping[str, float]
Measure = Callable[[], Figures]
Sides = tuple[Measure, Measure]  # old, new

CLIPS, WINDOWS = 4, 2  # that a round gives an engine


@dataclass(frozen=True, slots=True)
class Bench:
    """The old checkout, the model that both serve, clips' length and number, a folder for what is written."""

    old: Path
    model: str
    seconds: float
    requests: int
    folder: Path

    def server(self, checkout: Path) -> ServerProcess:
        return ServerProcess(self.folder, self.model, checkout=checkout)


# Rows


@contextmanager
def startup(bench: Bench) -> Iterator[Sides]:
    """A server from process start to its first answer, and its memory."""

    def start(checkout: Path) -> Figures:
        with bench.server(checkout) as server, httpx2.Client() as client:
            ready = {"ready after, s": server.ready_s, "CPU until ready, s": server.cpu_s()}
            memory = {"memory when ready, MB (PSS)": server.memory().pss}
            transcribe(client, server, data_path("demo/sample.wav"))
            answered = {"CPU until the first answer, s": server.cpu_s()}
            return ready | answered | memory | {"memory after it, MB (PSS)": server.memory().pss}

    yield partial(start, bench.old), partial(start, ROOT)


def clips(bench: Bench) -> AbstractContextManager[Sides]:
    """One client, one clip after another."""
    return requests(bench, clients=1, count=bench.requests)


def burst(bench: Bench) -> AbstractContextManager[Sides]:
    """Sixteen clients at once."""
    return requests(bench, clients=16, count=3 * bench.requests)


@contextmanager
def requests(bench: Bench, *, clients: int, count: int) -> Iterator[Sides]:
    recording = bench.folder / "speech.wav"
    write_wav(recording, bench.seconds)

    def ask(server: ServerProcess) -> Figures:
        taken = measure(server, recording, clients, count)
        return {
            "latency, s (median)": statistics.median(taken.seconds),
            "wall time a request, s": taken.wall_s / count,
            "CPU a request, s": taken.cpu_s / count,
        }

    with bench.server(bench.old) as old, bench.server(ROOT) as new:
        yield partial(ask, old), partial(ask, new)


@contextmanager
def engine(bench: Bench) -> Iterator[Sides]:
    """The engine alone: clips at once, and full windows of a long file."""
    model = data_path("demo") if bench.model == "demo" else Path(bench.model)

    def run(contender: Contender) -> Figures:
        together = contender("burst", count=CLIPS, seconds=bench.seconds, beam=5)
        cut = contender("windows", count=WINDOWS)
        return {
            f"{load}: {clock}": answer[field]
            for load, answer in ((f"{CLIPS} clips", together), (f"{WINDOWS} full windows", cut))
            for clock, field in (("CPU, s", "cpu_s"), ("wall time, s", "wall_s"))
        }

    with Contender("ours", model, 0, checkout=bench.old) as old, Contender("ours", model, 0) as new:
        yield partial(run, old), partial(run, new)


ROWS: dict[str, Callable[[Bench], AbstractContextManager[Sides]]] = {
    "startup": startup,
    "clips": clips,
    "burst": burst,
    "engine": engine,
}


# Measuring


def in_turns(sides: Sides, rounds: int) -> list[tuple[Figures, Figures]]:
    """Both sides' figures, round by round; the first round of each warms up."""
    pairs = []
    for number in range(rounds + 1):
        taken = {side: sides[side]() for side in ((0, 1) if number % 2 else (1, 0))}
        pairs.append((taken[0], taken[1]))
    return pairs[1:]


def table(pairs: Sequence[tuple[Figures, Figures]]) -> Iterator[str]:
    """A line for each figure: medians of old and new, and the ratios inside the rounds."""
    for name in pairs[0][0]:
        old, new = [pair[0][name] for pair in pairs], [pair[1][name] for pair in pairs]
        ratios = sorted(after / before for before, after in zip(old, new, strict=True))
        yield (
            f"{name}: {statistics.median(old):.3f} before, {statistics.median(new):.3f} now, "
            f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures this checkout against another one. Linux only.")
    parser.add_argument("old", type=Path, help="the other checkout, which has a .venv with what it needs")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--model", default="demo", help="a folder, or the bundled demo (default)")
    parser.add_argument("--seconds", type=float, default=5, help="length of a clip (default: 5)")
    parser.add_argument("--requests", type=int, default=10, help="of a round; a burst has thrice (default: 10)")
    parser.add_argument("--rounds", type=int, default=9, help="default: 9")
    given = parser.parse_intermixed_args()
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.old.resolve(), given.model, given.seconds, given.requests, Path(folder))
        for row in given.rows or ROWS:
            with ROWS[row](bench) as sides:
                print(
                    f"{row}, {given.rounds} rounds", *table(in_turns(sides, given.rounds)), sep="\n  ", flush=True
                )


if __name__ == "__main__":
    main()
