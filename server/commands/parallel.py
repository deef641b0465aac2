"""Transcribes recordings several at once, in this process or on a server, and shows the progress of all of them.

Knows nothing of what becomes of a transcript.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from os.path import isfile
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar

from tqdm import tqdm

from server.commands.files import STDIN, InputFile
from server.options import TranscriptionOptions, UploadFd
from server.settings import Settings
from server.transcript import Transcript

POLL_S = 0.1
UNOPENED = 2  # recordings started at a time while their length is unknown
DEMO = "sotto: the demo model only knows digits and a few sentences; for real speech: sotto {} --model small"
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"

Failures = list[tuple[Path, Exception]]


class Transcribing(Protocol):
    """A recording being transcribed."""

    @property
    def done_s(self) -> float: ...

    @property
    def left_s(self) -> float: ...

    async def result(self) -> Transcript: ...

    async def close(self) -> None: ...


class Transcriber(Protocol):
    """This process's engine, or a server: fully used by `at_once` recordings, or by fewer with `ahead_s` left."""

    @property
    def at_once(self) -> int: ...

    @property
    def ahead_s(self) -> float: ...

    def transcribe(self, source: UploadFd, options: TranscriptionOptions) -> Transcribing: ...


@dataclass(slots=True, eq=False)
class RecordingJob:
    """A recording to transcribe, and its progress."""

    recording: InputFile
    options: TranscriptionOptions
    size: int = field(init=False)
    under_way: Transcribing | None = field(default=None, init=False)
    ended: bool = field(default=False, init=False)
    transcribed_s: float = field(default=0.0, init=False)  # set once it has ended

    def __post_init__(self) -> None:
        path = self.recording.path
        self.size = path.stat().st_size if isfile(path) else 0  # Path.is_file fails for a name that is too long

    @property
    def done_s(self) -> float:
        return self.under_way.done_s if self.under_way else self.transcribed_s

    @property
    def known_s(self) -> float:
        """The length of the recording as far as it is known, s; 0 if it isn't."""
        return self.done_s + (self.under_way.left_s if self.under_way else 0.0)

    def end(self) -> None:
        """Release everything but the figures for the summary."""
        self.transcribed_s, self.under_way, self.ended = self.done_s, None, True


Job = TypeVar("Job", bound=RecordingJob)


class ParallelRun(Generic[Job]):
    """Transcribes all jobs. A failed one is added to `failures`, and the others continue.

    `finish` gets each job with its transcript; what it raises is that job's failure. `after` is called once a job
    has ended, with a function that clears the progress bar, for what is printed; what it raises ends the run.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        failures: Failures,
        finish: Callable[[Job, Transcript], Awaitable[None]],
        after: Callable[[Callable[[], object]], None] = lambda clear: None,
        stdin: IO[bytes] | None = None,
    ) -> None:
        self.jobs = jobs
        self.spent_s = 0.0  # once it has ended
        self._failures = failures
        self._finish = finish
        self._after = after
        self._stdin = stdin
        self._under_way: set[Job] = set()
        self._moved = asyncio.Event()

    @property
    def done_s(self) -> float:
        """Seconds of audio transcribed so far."""
        return sum(job.done_s for job in self.jobs)

    async def go(self, transcriber: Transcriber) -> None:
        """Start one recording after another, as soon as there is room."""
        with tqdm(disable=None, leave=False, file=sys.stderr, bar_format=BAR, dynamic_ncols=True) as bar:
            began_s = asyncio.get_running_loop().time()
            watching = asyncio.create_task(self._watch(bar))
            try:
                async with asyncio.TaskGroup() as group:
                    for job in self.jobs:
                        await self._wait_for_room(transcriber)
                        self._under_way.add(job)
                        group.create_task(self._do(job, transcriber, bar))
            except ExceptionGroup as errors:  # standard output is closed or full
                raise errors.exceptions[0] from None
            finally:
                watching.cancel()
            self.spent_s = asyncio.get_running_loop().time() - began_s
            shown = not bar.disable
        if shown:
            self._sum_up()

    async def _wait_for_room(self, transcriber: Transcriber) -> None:
        """Wait until `transcriber` has room for another recording."""
        while (
            len(self._under_way) >= transcriber.at_once
            or sum(job.known_s == 0 for job in self._under_way) >= UNOPENED
            or sum(job.known_s - job.done_s for job in self._under_way) >= transcriber.ahead_s
        ):
            self._moved.clear()
            await self._moved.wait()

    async def _do(self, job: Job, transcriber: Transcriber, bar: tqdm) -> None:
        try:
            await self._finish(job, await self._transcribe(job, transcriber))
        except Exception as error:  # whatever is wrong with one recording, the others continue
            self._failures.append((job.recording.path, error))
        job.end()
        self._under_way.discard(job)
        self._moved.set()
        self._after(bar.clear)

    async def _transcribe(self, job: Job, transcriber: Transcriber) -> Transcript:
        path = job.recording.path
        with ExitStack() as held:
            file = self._stdin if path == STDIN and self._stdin else held.enter_context(path.open("rb"))
            source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, path.name)
            job.under_way = transcriber.transcribe(source, job.options)
            try:
                return await job.under_way.result()
            finally:
                await job.under_way.close()

    async def _watch(self, bar: tqdm) -> None:
        """Show the progress of all recordings; estimates may have changed."""
        while True:
            self._moved.set()
            bar.n = self.done_s
            bar.total = max(self._expected_s(), bar.n) or None
            ended = sum(job.ended for job in self.jobs)
            bar.set_description_str(f"{ended}/{len(self.jobs)}", refresh=False)
            bar.set_postfix_str(f"{bar.n / max(bar.format_dict['elapsed'], POLL_S):.1f}x", refresh=False)
            bar.refresh()
            await asyncio.sleep(POLL_S)

    def _expected_s(self) -> float:
        """Return the total length of all recordings, s; that of unopened ones is estimated from their size."""
        known = [job for job in self.jobs if job.known_s or job.ended]
        known_s, size = sum(job.known_s for job in known), sum(job.size for job in known)
        left = sum(job.size for job in self.jobs) - size
        return known_s + (left * known_s / size if size else 0.0)

    def _sum_up(self) -> None:
        audio, spent = (timedelta(seconds=round(seconds)) for seconds in (self.done_s, self.spent_s))
        print(f"{audio} of audio in {spent} ({self.done_s / max(self.spent_s, POLL_S):.1f}x)", file=sys.stderr)


def transcribe_all(
    work: ParallelRun[Job], settings: Settings, *, command: str, server: str | None, model: str
) -> str:
    """Do the work with the model of `settings` in this process, or on a server with `model`; empty: its default.

    Returns the model's name. Warns if it is the demo, and advises `command` with another one. Raises `SottoError`.
    """
    if server:
        return asyncio.run(_by_server(server, model, work))
    return _here(settings, command, work)


async def _by_server(url: str, model: str, work: ParallelRun[Job]) -> str:
    from server.commands.client import DEFAULT, Client

    async with Client(url) as client:
        description = await client.describe(model)
        if description.get("demo"):
            print(DEMO.format("serve"), file=sys.stderr)
        await work.go(client)
    return str(description.get("root") or model or DEFAULT)


def _here(settings: Settings, command: str, work: ParallelRun[Job]) -> str:
    from server.commands.local import opened  # heavy

    with opened(settings) as here:
        if here.demo:
            print(DEMO.format(command), file=sys.stderr)
        asyncio.run(work.go(here))
        return here.model.known.name
