"""The two that are compared, one after the other in one process, so with the same instruction set and libraries.

Ours is the whole pipeline as `sotto transcribe` runs it, several recordings at once; stock is faster-whisper as it
is, one by one. Both start from the file; stock is given the samples that our decoder makes of it, and our
spectrogram of them: its own differs in the last bits, which would decide a word in a hundred by chance.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.truth.recordings import Recording, TimedWord
from server.audio.decode import open_audio
from server.commands.local import LocalTranscriber, opened
from server.errors import UndecodableAudio
from server.options import DecodingOptions, TranscriptionOptions, UploadFd
from server.settings import Settings

BEAM_SIZE = 5
COMPUTE_TYPE = "int8"
LIMIT_S = 3600.0
SEED = 1  # of sampling, where a window is decoded again at a higher temperature


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What one transcriber made of one recording; `words` only where the recording has a reference alignment."""

    text: str
    language: str
    words: tuple[TimedWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """Hypotheses by the recordings' names, and what they took: seconds of wall and of CPU time."""

    hypotheses: dict[str, Hypothesis] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0


def is_decodable(recording: Recording) -> bool:
    """Whether our decoder takes the file: what it refuses, neither is given."""
    try:
        with recording.path.open("rb") as file, open_audio(file, limit_s=LIMIT_S):
            return True
    except UndecodableAudio:
        return False


def transcribe_ours(model: Path, recordings: Sequence[Recording]) -> Run:
    """By the pipeline, with as many recordings at once as it takes into a batch."""
    settings = Settings(model=str(model), offline=True, device="cpu", compute_type=COMPUTE_TYPE)
    with opened(settings) as here:
        _seed()
        return _timed(lambda: asyncio.run(_all(here, recordings)))


async def _all(here: LocalTranscriber, recordings: Sequence[Recording]) -> dict[str, Hypothesis]:
    room = asyncio.Semaphore(here.at_once)

    async def one(recording: Recording) -> Hypothesis:
        async with room:
            return await _one(here, recording)

    async with asyncio.TaskGroup() as group:
        tasks = {recording.name: group.create_task(one(recording)) for recording in recordings}
    return {name: task.result() for name, task in tasks.items()}


async def _one(here: LocalTranscriber, recording: Recording) -> Hypothesis:
    decoding = DecodingOptions(beam_size=BEAM_SIZE, word_timestamps=bool(recording.words))
    with recording.path.open("rb") as file:
        source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, recording.name)
        transcription = here.transcribe(source, TranscriptionOptions(decoding=decoding))
        try:
            transcript = await transcription.result()
        finally:
            await transcription.close()
    words = tuple(TimedWord(word.word, word.start, word.end) for word in transcript.words)
    return Hypothesis(transcript.text, transcript.language, words)


def transcribe_stock(model: Path, recordings: Sequence[Recording]) -> Run:
    """By faster-whisper with its voice activity detection, all but the spectrogram's last bits as it comes.

    Call it behind `transcribe_ours`, which chooses the process's instruction set before CTranslate2 is imported.
    """
    from faster_whisper import WhisperModel

    from tests.support.reference import share_spectrogram

    _seed()
    whisper = WhisperModel(str(model), device="cpu", compute_type=COMPUTE_TYPE, local_files_only=True)
    share_spectrogram(whisper)

    def one(recording: Recording) -> Hypothesis:
        with_words = bool(recording.words)
        segments, info = whisper.transcribe(
            _samples(recording), beam_size=BEAM_SIZE, vad_filter=True, word_timestamps=with_words
        )
        found = list(segments)  # a generator: the work is done here
        words = tuple(TimedWord(each.word, each.start, each.end) for one in found for each in one.words or ())
        return Hypothesis("".join(segment.text for segment in found).strip(), info.language, words)

    return _timed(lambda: {recording.name: one(recording) for recording in recordings})


def _seed() -> None:
    """Let threads that sample from now on do it alike in every run. Imported late: see `transcribe_stock`."""
    from ctranslate2 import set_random_seed

    set_random_seed(SEED)


def _samples(recording: Recording) -> npt.NDArray[np.float32]:
    """The whole recording in [-1, 1) at 16 kHz."""
    with recording.path.open("rb") as file, open_audio(file, limit_s=LIMIT_S) as blocks:
        return np.concatenate(list(blocks)).astype(np.float32) / 32768.0


def _timed(work: Callable[[], dict[str, Hypothesis]]) -> Run:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    hypotheses = work()
    return Run(hypotheses, time.perf_counter() - wall_s, time.process_time() - cpu_s)
