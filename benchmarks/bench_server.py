"""What the server costs: HTTP's share, memory of a long file, time to ready, /health while it works.

    python -m benchmarks.bench_server overhead
    python -m benchmarks.bench_server memory --hours 5
    python -m benchmarks.bench_server startup
    python -m benchmarks.bench_server health

Each starts real server processes. Linux only. Where other programs share the machine, trust ratios, medians and
CPU time; rounds of what is compared take turns.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from benchmarks.processes import (
    SPEECH,
    Memory,
    Repeated,
    ServerProcess,
    transcribe,
    write_repeated,
    write_wav,
)
from server.audio.media_decoder import MediaDecoder
from server.audio.scanner import Scanner
from server.models.catalog import data_path
from server.options import DecodingOptions, TranscriptionOptions, UploadFd
from server.pool.registry import load
from server.quota import Quota
from server.settings import Settings
from server.transcript import SAMPLE_BYTES, SAMPLE_RATE
from server.transcription.pipeline import Pipeline
from tests.support.bad_inputs import DATA, wav

PAUSE_S = 0.5  # between what is compared: OpenMP's threads spin on for 0.2 s after a batch
SAMPLE_S = 0.5
POLL_S = 0.05
IDLE_S = 20.0
TENTHS = 10
WARM_UP_S = 600.0  # 20 windows of 30 s: batches reach their full size with every model


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the server. Linux only.")
    commands = parser.add_subparsers(required=True)
    for measure, rounds, help_text in (
        (overhead, 15, "HTTP against the pipeline in this process"),
        (memory, 1, "memory, drift and speed of a long file"),
        (startup, 5, "process start to ready and to the first answer"),
        (health, 1, "latency of /health during a long transcription"),
    ):
        command = commands.add_parser(measure.__name__, help=help_text)
        command.add_argument("--model", default="demo", help="name or folder (default: demo)")
        command.set_defaults(measure=measure)
        if rounds > 1:
            command.add_argument("--rounds", type=int, default=rounds, help=f"default: {rounds}")
        if measure is overhead:
            command.add_argument("--seconds", type=float, default=30, help="length of the recording (default: 30)")
        if measure is memory:
            command.add_argument("--hours", type=float, default=5, help="length of the recording (default: 5)")
            command.add_argument("--words", action="store_true", help="word times too")
        if measure is health:
            command.add_argument("--minutes", type=float, default=20, help="length of the recording (default: 20)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.measure(args, Path(folder))


# HTTP's share


Ways = Mapping[str, tuple[Callable[[Path], str], Callable[[], float]]]  # each with a clock of its CPU time


def overhead(args: argparse.Namespace, folder: Path) -> None:
    """The same recordings through the pipeline of this process and through a server, in turns.

    Silence costs the model nothing: what HTTP adds is seen there in milliseconds, where in speech it may be less
    than the noise.
    """
    speech, silence = folder / "speech.wav", folder / "silence.wav"
    write_wav(speech, args.seconds)
    silence.write_bytes(wav(bytes(round(args.seconds * SAMPLE_RATE) * SAMPLE_BYTES)))
    with ServerProcess(folder, args.model) as server, httpx2.Client() as client, pipeline(args.model) as here:
        ways: Ways = {
            "in-process": (here, time.process_time),
            "HTTP": (lambda path: str(transcribe(client, server, path)["text"]), server.cpu_s),
        }
        local, remote = compared(ways, speech, args.rounds, args.seconds)
        local_silence, remote_silence = compared(ways, silence, args.rounds, args.seconds)
    for field in ("wall_s", "cpu_s"):
        whole = median(local, field)
        added = median(remote_silence, field) - median(local_silence, field)
        print(
            f"HTTP / in-process, {field}: {median(remote, field) / whole:.3f} of medians, "
            f"{least(remote, field) / least(local, field):.3f} of least values; "
            f"silence: {1000 * added:+.0f} ms, which is {100 * added / whole:+.1f} % of speech"
        )


def compared(ways: Ways, recording: Path, rounds: int, seconds: float) -> list[list["Spent"]]:
    spent: list[list[Spent]] = [[] for _ in ways]
    texts = {run(recording) for run, _ in ways.values()}  # the first round of each warms up
    for _ in range(rounds):
        for rows, (run, cpu_s) in zip(spent, ways.values(), strict=True):
            time.sleep(PAUSE_S)
            rows.append(measured(partial(run, recording), cpu_s))
    same = "equal" if len(texts) == 1 else f"different: {texts}"
    print(f"{recording.stem}, {seconds:g} s, {rounds} rounds; texts {same}")
    for name, rows in zip(ways, spent, strict=True):
        print(
            f"  {name}: {median(rows, 'wall_s'):.3f} s (least {least(rows, 'wall_s'):.3f}), "
            f"CPU {median(rows, 'cpu_s'):.3f} s (least {least(rows, 'cpu_s'):.3f})"
        )
    return spent


@dataclass(frozen=True, slots=True)
class Spent:
    wall_s: float
    cpu_s: float


def measured(run: Callable[[], object], cpu_s: Callable[[], float]) -> Spent:
    cpu, wall = cpu_s(), time.perf_counter()
    run()
    return Spent(time.perf_counter() - wall, cpu_s() - cpu)


def median(rounds: Sequence[object], field: str) -> float:
    return statistics.median([float(getattr(one, field)) for one in rounds])


def least(rounds: Sequence[object], field: str) -> float:
    """Where others use the machine too: what it takes when they happen not to."""
    return min(float(getattr(one, field)) for one in rounds)


@contextmanager
def pipeline(model: str) -> Iterator[Callable[[Path], str]]:
    """A function that gives a recording's text by the server's pipeline, in this process, with its defaults."""
    settings = Settings(model=model)
    registry = load(settings, in_process=True)
    media = MediaDecoder(
        Scanner(),
        workers=settings.media_workers,
        spool=Quota(settings.spool_bytes, settings.spool_bytes),
        max_audio_s=settings.max_audio_seconds,
    )
    options = TranscriptionOptions(decoding=DecodingOptions(beam_size=settings.beam_size))
    whole = Pipeline(media, registry, max_windows=settings.max_windows)

    async def text(upload: UploadFd) -> str:
        transcription = whole.transcribe(upload, options)
        try:
            return (await transcription.result()).text
        finally:
            await transcription.close()

    def run(path: Path) -> str:
        with path.open("rb") as file:
            return runner.run(text(UploadFd(file.fileno(), path.stat().st_size, path.name)))

    try:
        with asyncio.Runner() as runner:
            yield run
    finally:
        media.close()
        registry.close()


# Memory


def memory(args: argparse.Namespace, folder: Path) -> None:
    """A file of hours to a server that has warmed up on batches of full size."""
    long = write_repeated(folder / "long.mp3", args.hours * 3600)
    warm_up = write_repeated(folder / "warm_up.mp3", WARM_UP_S)
    with ServerProcess(folder, args.model) as server, httpx2.Client() as client:
        started = server.memory()
        transcribe(client, server, warm_up.path, words=args.words)
        idle = settled(server)
        server.reset_peak()
        cpu_s = server.cpu_s()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(transcribe, client, server, long.path, words=args.words)
            began = time.perf_counter()
            samples = list(watched(server, answer))
            wall_s = time.perf_counter() - began
        cpu_s = server.cpu_s() - cpu_s
        report_memory(long, started, idle, samples, settled(server))
    print(
        f"{long.duration_s / 3600:.2f} h in {wall_s:.0f} s: {long.duration_s / wall_s:.1f} x real time, "
        f"{cpu_s:.0f} s CPU"
    )
    report_times(long, answer.result())


@dataclass(frozen=True, slots=True)
class Sample:
    memory: Memory
    hidden_mb: float


def settled(server: ServerProcess) -> Memory:
    time.sleep(PAUSE_S)
    return server.memory()


def watched(server: ServerProcess, answer: Future[Any]) -> Iterator[Sample]:
    while not answer.done():
        time.sleep(SAMPLE_S)
        yield Sample(server.memory(), server.hidden_bytes() / 1e6)


def report_memory(long: Repeated, started: Memory, idle: Memory, samples: Sequence[Sample], after: Memory) -> None:
    peak_rss = max(max(one.memory.rss for one in samples), after.peak_rss)
    peak_pss = max(one.memory.pss for one in samples)
    print(f"started: RSS {started.rss:.0f} MB, PSS {started.pss:.0f} MB")
    print(f"idle after the warm-up: RSS {idle.rss:.0f} MB, PSS {idle.pss:.0f} MB")
    print(f"peak: RSS {peak_rss:.0f} MB, PSS {peak_pss:.0f} MB")
    print(f"above idle: RSS {peak_rss - idle.rss:.0f} MB, PSS {peak_pss - idle.pss:.0f} MB (goal: below 150 MB)")
    print(f"afterwards: RSS {after.rss:.0f} MB, PSS {after.pss:.0f} MB")
    steps = [samples[len(samples) * tenth // TENTHS].memory.pss for tenth in range(TENTHS)]
    print("PSS at each tenth:", *(f"{mb:.0f}" for mb in [*steps, samples[-1].memory.pss]), "MB")
    upload_mb = long.path.stat().st_size / 1e6
    print(f"on disk: upload {upload_mb:.0f} MB, with the spool {max(one.hidden_mb for one in samples):.0f} MB")


def report_times(long: Repeated, answer: dict[str, Any]) -> None:
    """Whether every piece says the same at the same place."""
    segments = answer["segments"]
    pieces: list[list[dict[str, Any]]] = [[] for _ in range(long.pieces)]
    for segment in segments:
        middle = (segment["start"] + segment["end"]) / 2
        pieces[min(int(middle / long.piece_s), long.pieces - 1)].append(segment)
    texts = Counter("".join(segment["text"] for segment in piece) for piece in pieces)
    ordered = all(a["end"] <= b["start"] for a, b in pairwise(segments))
    order = "in order" if ordered else "OUT OF ORDER"
    print(f"{len(segments)} segments, {order}; duration {answer['duration']:.3f} s of {long.duration_s:.3f} s")
    print(f"pieces with equal text: {texts.most_common(1)[0][1]} of {long.pieces}, {len(texts)} texts")
    print(f"last segment ends {1000 * (segments[-1]['end'] - spoken_until(long)):+.0f} ms from what is spoken")
    moved = [
        segment["end"] - same["end"] - (long.pieces - 1) * long.piece_s
        for same in pieces[0]
        for segment in pieces[-1]
        if segment["text"] == same["text"]
    ]
    if moved:
        print(f"drift from first to last piece: {1000 * statistics.median(moved):+.0f} ms (median of {len(moved)})")


def spoken_until(long: Repeated) -> float:
    """Where the last sentence ends, s."""
    for line in (DATA / "manifest.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["file"] == SPEECH.name:
            return float(entry["segments"][-1]["end"]) + long.delay_s + (long.pieces - 1) * long.piece_s
    raise LookupError(SPEECH.name)


# Start


def startup(args: argparse.Namespace, folder: Path) -> None:
    """Process start to the ready line, and to the first answer; with files out of the page cache, and in it."""
    cold = [started(args.model, folder, prepare=forget_files) for _ in range(args.rounds)]
    warm = [started(args.model, folder, prepare=lambda: None) for _ in range(args.rounds)]
    for name, rounds in (("cold", cold), ("warm", warm)):
        print(
            f"{name}: ready after {median(rounds, 'ready_s'):.2f} s, first answer after "
            f"{median(rounds, 'answer_s'):.2f} s, CPU until then {median(rounds, 'cpu_s'):.2f} s "
            f"(medians of {len(rounds)})"
        )


@dataclass(frozen=True, slots=True)
class Started:
    ready_s: float
    answer_s: float
    cpu_s: float


def started(model: str, folder: Path, *, prepare: Callable[[], None]) -> Started:
    prepare()
    with ServerProcess(folder, model) as server, httpx2.Client() as client:
        transcribe(client, server, data_path("demo/sample.wav"))
        return Started(server.ready_s, time.perf_counter() - server.began, server.cpu_s())


def forget_files() -> None:
    """Take Python's packages and the bundled model out of the page cache, unless other programs have them open."""
    for folder in (*map(Path, sys.path), data_path("demo")):
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# Health


def health(args: argparse.Namespace, folder: Path) -> None:
    """Polls at 20 Hz, idle and during a transcription: its upload, decoding, inference and answer.

    Beside it a process that does nothing else is polled in the same way: what both suffer is the machine's.
    """
    long = write_repeated(folder / "long.mp3", args.minutes * 60)
    with (
        bare_server() as bare,
        ServerProcess(folder, args.model) as server,
        httpx2.Client() as client,
        ThreadPoolExecutor(3) as pool,
    ):
        urls = {"/health": f"{server.url}/health", "a bare server": bare}
        transcribe(client, server, SPEECH)
        time.sleep(PAUSE_S)
        report_latency("idle", urls, pool.submit(time.sleep, IDLE_S), pool)
        report_latency("busy", urls, pool.submit(transcribe, client, server, long.path), pool)


@contextmanager
def bare_server() -> Iterator[str]:
    """The address of a process that answers every GET at once."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_nothing, args=(there,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}/"
    finally:
        process.terminate()
        process.join()


def serve_nothing(pipe: Connection) -> None:
    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        pipe.send(server.server_port)
        server.serve_forever()


class Nothing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the connection

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def report_latency(name: str, urls: Mapping[str, str], end: Future[Any], pool: ThreadPoolExecutor) -> None:
    """Poll all `urls` until `end` is done, and print how long they took."""
    polls = {target: pool.submit(polled, url, end) for target, url in urls.items()}
    for target, poll in polls.items():
        seconds = poll.result()
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        p50, p95, p99 = (1000 * cuts[percent - 1] for percent in (50, 95, 99))
        print(
            f"{name}, {target}: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, "
            f"max {1000 * max(seconds):.1f} ms ({len(seconds)} polls)"
        )
    end.result()


def polled(url: str, end: Future[Any]) -> list[float]:
    """Seconds that each poll took, counted from when it was due: a stall counts for all it kept waiting."""
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port)
    taken = []
    due = time.perf_counter()
    while not end.done():
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.request("GET", address.path)
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        taken.append(time.perf_counter() - due)
        due += POLL_S
    connection.close()
    return taken


if __name__ == "__main__":
    main()
