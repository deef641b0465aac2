"""How many recordings are transcribed at once, and what becomes of one that fails."""

import asyncio
from pathlib import Path

import pytest

from server.commands.files import InputFile
from server.commands.parallel import Failures, ParallelRun, RecordingJob
from server.options import TranscriptionOptions, UploadFd
from server.transcript import Transcript
from tests.support.bad_inputs import DATA
from tests.support.fakes import eventually, peek

ENGLISH = DATA / "en_00.wav"


async def finish(job: RecordingJob, transcript: Transcript) -> None:
    """Do nothing with it."""


class FakeTranscription:
    """A recording of `left_s` that ends when its event is set."""

    def __init__(self, left_s: float) -> None:
        self.done_s, self.left_s = 0.0, left_s
        self.finished = asyncio.Event()

    async def result(self) -> Transcript:
        await self.finished.wait()
        return Transcript("transcribe", "en", None, self.left_s, ())

    async def close(self) -> None:
        self.left_s = 0.0


class FakeTranscriber:
    """Has recordings of some lengths under way, and keeps them."""

    def __init__(self, *lengths_s: float, at_once: int, ahead_s: float) -> None:
        self.at_once, self.ahead_s = at_once, ahead_s
        self.begun: list[FakeTranscription] = []
        self._lengths_s = list(lengths_s)

    def transcribe(self, source: UploadFd, options: TranscriptionOptions) -> FakeTranscription:
        self.begun.append(FakeTranscription(self._lengths_s.pop(0)))
        return self.begun[-1]


@pytest.mark.parametrize(
    ("lengths_s", "begun"),
    [
        ((1, 1, 1, 1, 1), 3),  # no more than may be under way
        ((50, 60, 1, 1, 1), 2),  # these have enough audio
        ((0, 0, 1, 1, 1), 2),  # whose length is not known yet
    ],
)
def test_recordings_begin_while_there_is_room_for_them(lengths_s: tuple[float, ...], begun: int) -> None:
    jobs = [RecordingJob(InputFile(ENGLISH), TranscriptionOptions()) for _ in lengths_s]
    state = FakeTranscriber(*lengths_s, at_once=3, ahead_s=100)

    async def go() -> None:
        run = asyncio.create_task(ParallelRun(jobs, [], finish).go(state))
        await eventually(lambda: len(state.begun) == begun)
        await peek()
        assert len(state.begun) == begun
        for done in range(len(lengths_s)):
            await eventually(lambda done=done: len(state.begun) > done)  # type: ignore[misc]
            state.begun[done].finished.set()
        await run

    asyncio.run(go())


def test_failures_are_kept_with_their_recordings_and_the_others_are_finished() -> None:
    finished: list[Path] = []
    after: list[int] = []
    failures: Failures = []

    async def unless_second(job: RecordingJob, transcript: Transcript) -> None:
        if job is jobs[1]:
            raise ValueError("no")
        finished.append(job.recording.path)

    paths = [Path("missing.wav"), ENGLISH, DATA / "es_00.wav", Path("x" * 5000)]
    jobs = [RecordingJob(InputFile(path), TranscriptionOptions()) for path in paths]
    work = ParallelRun(jobs, failures, unless_second, lambda clear: after.append(len(finished)))
    transcriber = FakeTranscriber(1, 2, at_once=1, ahead_s=100)

    async def go() -> None:
        running = asyncio.create_task(work.go(transcriber))
        for number in range(2):
            await eventually(lambda number=number: len(transcriber.begun) > number)  # type: ignore[misc]
            transcriber.begun[number].finished.set()
        await running

    asyncio.run(go())
    assert [(path, type(error)) for path, error in failures] == [
        (paths[0], FileNotFoundError),
        (ENGLISH, ValueError),
        (paths[3], OSError),
    ]
    assert finished == [paths[2]]
    assert after == [0, 0, 1, 1]
    assert all(job.ended for job in jobs)
    assert work.spent_s > 0
