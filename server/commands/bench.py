"""`sotto bench`: how fast this machine, or a server, transcribes for one client and for many.

Each client sends a recording, waits for its text and sends it again until the round ends. The report names
versions and hardware, but no hosts or paths.
"""

import asyncio
import json
import math
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from server import __version__, logs
from server.commands.checks import cpu, libraries, python, ram
from server.commands.client import Client
from server.commands.local import LocalTranscriber, opened
from server.commands.transcribe import Transcriber
from server.errors import RemoteError
from server.models.catalog import SAMPLE, data_path
from server.options import DecodingOptions, TranscriptionOptions, UploadFd
from server.settings import Settings
from server.system.machine import resident_bytes
from server.system.sizes import in_words
from server.whisper.tuning import FORCE_ISA

CLIENTS = (1, 4, 16)
ROUND_S = 10.0
POLL_S = 0.1
# The reasons for the choices that a model reports when it is loaded.
REASONS = {
    "int8": "the smallest and on a CPU the fastest",
    "float16": "what GPUs are made for",
    f"{FORCE_ISA}=AVX512": "the CPU has these instructions, which CTranslate2 never picks by itself",
    f"{FORCE_ISA}=": "set by the environment",
    "no AVX-512": "CTranslate2 picks other instructions",
    "allocator tuned": "freed memory is kept for reuse",
    "allocator as it is": "SOTTO_TUNE_ALLOCATOR is off, or this is not glibc",
    "batches at once": "small steps gain nothing from more threads",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Current memory and CPU time of the work; None where unknown."""

    memory_bytes: int | None = None
    cpu_s: float | None = None


class Gauge(Protocol):
    async def read(self) -> Usage: ...


@dataclass(frozen=True, slots=True)
class Round:
    """Results of `clients` that never pause. `speed` is in times real time, `cpu_s` per second of audio."""

    clients: int
    requests: int
    speed: float
    p50_s: float
    p95_s: float
    cpu_s: float | None
    peak_bytes: int | None

    @property
    def row(self) -> tuple[str, ...]:
        return (
            f"{self.clients}",
            f"{self.requests}",
            f"{self.speed:.1f} x",
            f"{1 / self.speed:.4f}",
            f"{self.p50_s:.3f} s",
            f"{self.p95_s:.3f} s",
            "?" if self.cpu_s is None else f"{self.cpu_s:.3f} s",
            _memory(self.peak_bytes),
        )


@dataclass(frozen=True, slots=True)
class BenchReport:
    """The measurements and their conditions. `chosen` lists the settings of the model's process, with reasons."""

    model: str
    audio_s: float
    idle_bytes: int | None
    rounds: list[Round]
    machine: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    version: str = __version__

    def page(self) -> str:
        head = ("clients", "requests", "speed", "RTF", "p50", "p95", "CPU per s of audio", "peak memory")
        rows = [head, ("---:",) * len(head), *(each.row for each in self.rounds)]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        lines = [
            f"Sotto {self.version}, {self.model}: a {self.audio_s:.1f} s recording, repeated; "
            f"idle memory {_memory(self.idle_bytes)}",
            "",
            table,
            "",
            *(f"- {line}" for line in [*self.machine, *self.chosen]),
        ]
        return "\n".join(lines)


def bench(
    settings: Settings,
    recording: Path | None,
    *,
    server: str | None = None,
    model: str = "",
    clients: Sequence[int] = CLIENTS,
    round_s: float = ROUND_S,
    as_json: bool = False,
) -> int:
    """Measure and print; `model` is one of the server's, by default its default model. Returns an exit status."""
    logs.set_up("warning", settings.log_format)
    work = Bench(recording or data_path(SAMPLE), clients, round_s, model)
    if server:
        report = asyncio.run(_of_server(server, model, work))
    else:
        with opened(settings) as here:
            report = asyncio.run(_of_model(here, work))
    print(json.dumps(asdict(report), indent=2) if as_json else report.page())
    return 0


async def _of_model(here: LocalTranscriber, work: "Bench") -> BenchReport:
    machine = [check.text for check in (cpu(), ram(), python(), *libraries())]
    chosen = [here.model.description.rpartition(", ")[2], *here.model.prepared.split(", ")]
    audio_s, idle_bytes, rounds = await work.go(here, OwnGauge())
    return BenchReport(
        Path(here.model.name).name, audio_s, idle_bytes, rounds, machine, [_with_reason(each) for each in chosen]
    )


async def _of_server(url: str, model: str, work: "Bench") -> BenchReport:
    async with Client(url) as client:
        name = model or (await client.get("/v1/models")).json()["data"][0]["id"]
        version = (await client.get("/health")).json()["version"]
        audio_s, idle_bytes, rounds = await work.go(client, ServerGauge(client))
    return BenchReport(Path(name).name, audio_s, idle_bytes, rounds, ["measured through a server"], [], version)


def _with_reason(chosen: str) -> str:
    reason = next((text for mark, text in REASONS.items() if mark in chosen), "")
    return f"{chosen}: {reason}" if reason else chosen


class OwnGauge:
    """Measures this process."""

    async def read(self) -> Usage:
        spent = os.times()
        return Usage(resident_bytes() or None, spent.user + spent.system)


class ServerGauge:
    """Measures all processes of a server, through /metrics."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self) -> Usage:
        with suppress(RemoteError):
            text = (await self._client.get("/metrics")).text
            memory = _sum(text, "sotto_process_proportional_bytes") or _sum(text, "sotto_process_resident_bytes")
            return Usage(round(memory) or None)
        return Usage()


def _sum(metrics: str, name: str) -> float:
    """Return the sum of all series of a name."""
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)))


class Bench:
    """Measures a recording with each number of concurrent clients."""

    def __init__(self, recording: Path, clients: Sequence[int], round_s: float, model: str = "") -> None:
        self._recording = recording
        self._clients = clients
        self._round_s = round_s
        self._options = TranscriptionOptions(model=model, decoding=DecodingOptions())

    async def go(self, transcriber: Transcriber, gauge: Gauge) -> tuple[float, int | None, list[Round]]:
        """Return the recording's length, s; the memory before the rounds, bytes; and the rounds."""
        audio_s, _ = await self._ask(transcriber)  # warm up caches and allocators
        idle = await gauge.read()
        rounds = [await self._round(transcriber, gauge, clients, audio_s) for clients in self._clients]
        return audio_s, idle.memory_bytes, rounds

    async def _round(self, transcriber: Transcriber, gauge: Gauge, clients: int, audio_s: float) -> Round:
        if sys.stderr.isatty():
            print(f"{clients} at once, for {self._round_s:g} s ...", file=sys.stderr)
        began_s = time.monotonic()
        before = await gauge.read()
        async with _peak(gauge) as peak:
            asked = (self._repeat_requests(transcriber, began_s + self._round_s) for _ in range(clients))
            latencies = sorted(latency for each in await asyncio.gather(*asked) for latency in each)
        spent_s, after = time.monotonic() - began_s, await gauge.read()
        peak += [usage.memory_bytes for usage in (before, after) if usage.memory_bytes]
        audio_done_s = audio_s * len(latencies)
        cpu_s = None if before.cpu_s is None or after.cpu_s is None else (after.cpu_s - before.cpu_s) / audio_done_s
        return Round(
            clients=clients,
            requests=len(latencies),
            speed=audio_done_s / spent_s,
            p50_s=percentile(latencies, 0.5),
            p95_s=percentile(latencies, 0.95),
            cpu_s=cpu_s,
            peak_bytes=max(peak, default=None),
        )

    async def _repeat_requests(self, transcriber: Transcriber, until_s: float) -> list[float]:
        latencies: list[float] = []
        while not latencies or time.monotonic() < until_s:
            _, latency_s = await self._ask(transcriber)
            latencies.append(latency_s)
        return latencies

    async def _ask(self, transcriber: Transcriber) -> tuple[float, float]:
        """Return the recording's length and the time until its text arrived, both s."""
        began_s = time.monotonic()
        with self._recording.open("rb") as file:
            source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, self._recording.name)
            asked = transcriber.transcribe(source, self._options)
            try:
                transcript = await asked.result()
                return transcript.duration_s, time.monotonic() - began_s
            finally:
                await asked.close()


@asynccontextmanager
async def _peak(gauge: Gauge) -> AsyncIterator[list[int]]:
    """Sample the memory until the block ends."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            if memory := (await gauge.read()).memory_bytes:
                seen.append(memory)
            await asyncio.sleep(POLL_S)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the smallest of `ordered` that the share `part` of them doesn't exceed: a latency that was measured,
    where `statistics.quantiles` would interpolate."""
    return ordered[max(math.ceil(part * len(ordered)) - 1, 0)]


def _memory(size: int | None) -> str:
    return "?" if size is None else in_words(size, "MiB")
