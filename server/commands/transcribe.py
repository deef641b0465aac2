"""`sotto transcribe`: transcribes recordings, several at once, in this process or on a server."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Protocol

from tqdm import tqdm

from server import logs
from server.commands.files import STDIN, InputFile, OutputPath, find, write
from server.errors import InvalidRequest, one_line
from server.formats.render import render
from server.options import ResponseFormat, TranscriptionOptions, UploadFd
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


@dataclass(frozen=True, slots=True)
class TranscribeJob:
    """The request of the command line. Without `output`, text goes to standard output."""

    named: tuple[Path, ...]
    formats: tuple[ResponseFormat, ...]
    options: TranscriptionOptions
    output: OutputPath | None = None
    overwrite: bool = False


@dataclass(slots=True, eq=False)
class FileJob:
    """A recording, its output formats, and its progress."""

    recording: InputFile
    formats: tuple[ResponseFormat, ...]
    size: int
    under_way: Transcribing | None = None
    text: bytes = b""  # for standard output
    ended: bool = False
    transcribed_s: float = 0.0  # set once it has ended

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


def transcribe(settings: Settings, request: TranscribeJob, server: str | None = None) -> int:
    """Transcribe every recording; a failed one is reported and the others continue. Returns an exit status."""
    logs.set_up("warning", settings.log_format)
    failures: Failures = []
    with ExitStack() as held:
        stdin = held.enter_context(_standard_input()) if STDIN in request.named else None
        jobs = _plan(request, failures)
        try:
            if jobs:
                work = Run(jobs, request, failures, stdin)
                asyncio.run(_by_server(server, work)) if server else _here(settings, work)
        finally:
            for path, error in failures:
                text = one_line(error)
                print("sotto:", text if text.startswith(f"{path}: ") else f"{path}: {text}", file=sys.stderr)
    return 1 if failures else 0


async def _by_server(url: str, work: "Run") -> None:
    from server.commands.client import Client

    async with Client(url) as client:
        if await client.is_demo(work.model):
            print(DEMO.format("serve"), file=sys.stderr)
        await work.go(client)


def _here(settings: Settings, work: "Run") -> None:
    from server.commands.local import opened  # heavy

    with opened(settings) as here:
        if here.demo:
            print(DEMO.format("transcribe"), file=sys.stderr)
        asyncio.run(work.go(here))


def _plan(request: TranscribeJob, failures: Failures) -> list[FileJob]:
    """Return the jobs that are left to do; add recordings that can't be found to `failures`."""
    found = list(find(request.named))
    recordings = [one for one in found if isinstance(one, InputFile)]
    failures += [one for one in found if not isinstance(one, InputFile)]
    if request.output:
        request.output.check(recordings, request.formats)
    jobs = []
    for recording in recordings:
        if missing := tuple(each for each in request.formats if not _is_done(recording, each, request)):
            jobs.append(FileJob(recording, missing, _size(recording.path)))
    if done := len(recordings) - len(jobs):
        print(f"sotto: {done} of {len(recordings)} already done; --overwrite redoes them", file=sys.stderr)
    return jobs


def _is_done(recording: InputFile, made: ResponseFormat, request: TranscribeJob) -> bool:
    return request.output is not None and not request.overwrite and request.output.target(recording, made).exists()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    """Copy all of standard input to disk."""
    if sys.stdin.isatty():
        raise InvalidRequest("standard input is a terminal: pipe a recording to it")
    with tempfile.TemporaryFile() as kept:
        copyfileobj(sys.stdin.buffer, kept)
        yield kept


class Run:
    """All jobs of one command; errors are added to `failures`."""

    def __init__(
        self, jobs: Sequence[FileJob], request: TranscribeJob, failures: Failures, stdin: IO[bytes] | None = None
    ) -> None:
        self._jobs = jobs
        self._request = request
        self._failures = failures
        self._stdin = stdin
        self._under_way: set[FileJob] = set()
        self._printed = 0
        self._moved = asyncio.Event()

    @property
    def model(self) -> str:
        """The model's name in requests to a server; empty means its default."""
        return self._request.options.model

    async def go(self, transcriber: Transcriber) -> None:
        """Start one recording after another, as soon as there is room."""
        with tqdm(disable=None, leave=False, file=sys.stderr, bar_format=BAR, dynamic_ncols=True) as bar:
            watching = asyncio.create_task(self._watch(bar))
            try:
                async with asyncio.TaskGroup() as group:
                    for job in self._jobs:
                        await self._wait_for_room(transcriber)
                        self._under_way.add(job)
                        group.create_task(self._do(job, transcriber, bar))
            except ExceptionGroup as errors:  # standard output is closed or full
                raise errors.exceptions[0] from None
            finally:
                watching.cancel()
            shown, spent_s = not bar.disable, bar.format_dict["elapsed"]
        if shown:
            self._sum_up(spent_s)

    async def _wait_for_room(self, transcriber: Transcriber) -> None:
        """Wait until `transcriber` has room for another recording."""
        while (
            len(self._under_way) >= transcriber.at_once
            or sum(job.known_s == 0 for job in self._under_way) >= UNOPENED
            or sum(job.known_s - job.done_s for job in self._under_way) >= transcriber.ahead_s
        ):
            self._moved.clear()
            await self._moved.wait()

    async def _do(self, job: FileJob, transcriber: Transcriber, bar: tqdm) -> None:
        try:
            transcript = await self._transcribe(job, transcriber)
            bodies = await asyncio.to_thread(self._rendered, job, transcript)
            self._hand_out(job, bodies)
        except Exception as error:  # whatever is wrong with one recording, the others continue
            self._failures.append((job.recording.path, error))
        job.end()
        self._under_way.discard(job)
        self._moved.set()
        self._print(bar)

    async def _transcribe(self, job: FileJob, transcriber: Transcriber) -> Transcript:
        path = job.recording.path
        with ExitStack() as held:
            file = self._stdin if path == STDIN and self._stdin else held.enter_context(path.open("rb"))
            source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, path.name)
            job.under_way = transcriber.transcribe(source, self._request.options)
            try:
                return await job.under_way.result()
            finally:
                await job.under_way.close()

    def _rendered(self, job: FileJob, transcript: Transcript) -> list[bytes]:
        variants = (replace(self._request.options, response_format=each) for each in job.formats)
        return [render(transcript, options)[1] for options in variants]

    def _hand_out(self, job: FileJob, bodies: list[bytes]) -> None:
        if self._request.output is None:
            (job.text,) = bodies
            return
        for made, body in zip(job.formats, bodies, strict=True):
            write(self._request.output.target(job.recording, made), body)

    def _print(self, bar: tqdm) -> None:
        """Print finished texts in the order of the command line."""
        while self._printed < len(self._jobs) and self._jobs[self._printed].ended:
            job = self._jobs[self._printed]
            self._printed += 1
            if job.text:
                bar.clear()
                sys.stdout.buffer.write(job.text if job.text.endswith(b"\n") else job.text + b"\n")
                sys.stdout.flush()
                job.text = b""

    async def _watch(self, bar: tqdm) -> None:
        """Show the progress of all recordings; estimates may have changed."""
        while True:
            self._moved.set()
            bar.n = sum(job.done_s for job in self._jobs)
            bar.total = max(self._expected_s(), bar.n) or None
            ended = sum(job.ended for job in self._jobs)
            bar.set_description_str(f"{ended}/{len(self._jobs)}", refresh=False)
            bar.set_postfix_str(f"{bar.n / max(bar.format_dict['elapsed'], POLL_S):.1f}x", refresh=False)
            bar.refresh()
            await asyncio.sleep(POLL_S)

    def _expected_s(self) -> float:
        """Return the total length of all recordings, s; that of unopened ones is estimated from their size."""
        known = [job for job in self._jobs if job.known_s or job.ended]
        known_s, size = sum(job.known_s for job in known), sum(job.size for job in known)
        left = sum(job.size for job in self._jobs) - size
        return known_s + (left * known_s / size if size else 0.0)

    def _sum_up(self, spent_s: float) -> None:
        done_s = sum(job.done_s for job in self._jobs)
        audio, spent = (timedelta(seconds=round(seconds)) for seconds in (done_s, spent_s))
        print(f"{audio} of audio in {spent} ({done_s / max(spent_s, POLL_S):.1f}x)", file=sys.stderr)
