"""`sotto transcribe`: transcribes recordings, several at once, in this process or on a server."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj
from typing import IO

from server import logs
from server.commands.files import STDIN, InputFile, OutputPath, find, write
from server.commands.parallel import Failures, ParallelRun, RecordingJob, transcribe_all
from server.errors import InvalidRequest, one_line
from server.formats.render import render
from server.options import ResponseFormat, TranscriptionOptions
from server.settings import Settings
from server.transcript import Transcript


@dataclass(frozen=True, slots=True)
class TranscribeJob:
    """The request of the command line. Without `output`, text goes to standard output."""

    named: tuple[Path, ...]
    formats: tuple[ResponseFormat, ...]
    options: TranscriptionOptions
    output: OutputPath | None = None
    overwrite: bool = False


@dataclass(slots=True, eq=False)
class FileJob(RecordingJob):
    """A recording and its output formats."""

    formats: tuple[ResponseFormat, ...]
    text: bytes = b""  # for standard output


def transcribe(settings: Settings, request: TranscribeJob, server: str | None = None) -> int:
    """Transcribe every recording; a failed one is reported and the others continue. Returns an exit status."""
    logs.set_up("warning", settings.log_format)
    failures: Failures = []
    with ExitStack() as held:
        stdin = held.enter_context(_standard_input()) if STDIN in request.named else None
        jobs = _plan(request, failures)
        try:
            if jobs:
                results = Results(jobs, request)
                work = ParallelRun(jobs, failures, results.finish, results.show, stdin)
                transcribe_all(work, settings, command="transcribe", server=server, model=request.options.model)
        finally:
            for path, error in failures:
                text = one_line(error)
                print("sotto:", text if text.startswith(f"{path}: ") else f"{path}: {text}", file=sys.stderr)
    return 1 if failures else 0


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
            jobs.append(FileJob(recording, request.options, missing))
    if done := len(recordings) - len(jobs):
        print(f"sotto: {done} of {len(recordings)} already done; --overwrite redoes them", file=sys.stderr)
    return jobs


def _is_done(recording: InputFile, made: ResponseFormat, request: TranscribeJob) -> bool:
    return request.output is not None and not request.overwrite and request.output.target(recording, made).exists()


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    """Copy all of standard input to disk."""
    if sys.stdin.isatty():
        raise InvalidRequest("standard input is a terminal: pipe a recording to it")
    with tempfile.TemporaryFile() as kept:
        copyfileobj(sys.stdin.buffer, kept)
        yield kept


class Results:
    """Hands out each result once it is complete: to its file, or to standard output in the order of the jobs."""

    def __init__(self, jobs: Sequence[FileJob], request: TranscribeJob) -> None:
        self._jobs = jobs
        self._request = request
        self._printed = 0

    async def finish(self, job: FileJob, transcript: Transcript) -> None:
        bodies = await asyncio.to_thread(self._rendered, job, transcript)
        if self._request.output is None:
            (job.text,) = bodies
            return
        for made, body in zip(job.formats, bodies, strict=True):
            write(self._request.output.target(job.recording, made), body)

    def _rendered(self, job: FileJob, transcript: Transcript) -> list[bytes]:
        variants = (replace(job.options, response_format=each) for each in job.formats)
        return [render(transcript, options)[1] for options in variants]

    def show(self, clear: Callable[[], object]) -> None:
        """Print finished texts in the order of the command line; `clear` the progress bar before each."""
        while self._printed < len(self._jobs) and self._jobs[self._printed].ended:
            job = self._jobs[self._printed]
            self._printed += 1
            if job.text:
                clear()
                sys.stdout.buffer.write(job.text if job.text.endswith(b"\n") else job.text + b"\n")
                sys.stdout.flush()
                job.text = b""
