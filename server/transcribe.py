"""`sotto transcribe`: files in, text out, through the same engine as the server's, in this process."""

import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from server import logs
from server.errors import InvalidRequest
from server.formats import render
from server.media import Media
from server.options import ResponseFormat, TranscriptionOptions, UploadFd
from server.pipeline import Pipeline, Transcription
from server.registry import load
from server.scan import Scanner
from server.settings import Settings
from server.transcript import Transcript

SUFFIXES: dict[ResponseFormat, str] = {
    "text": ".txt",
    "json": ".json",
    "verbose_json": ".json",
    "srt": ".srt",
    "vtt": ".vtt",
}
PROGRESS_S = 0.2


@dataclass(frozen=True, slots=True)
class Batch:
    """What the command line asks for. Without `output`, text goes to standard output."""

    files: tuple[Path, ...]
    options: TranscriptionOptions
    output: Path | None = None


def transcribe(settings: Settings, batch: Batch) -> int:
    """Transcribe every file; one that fails is reported and the others go on. Returns an exit status."""
    logs.set_up("warning", settings.log_format)
    if batch.output:
        batch.output.mkdir(parents=True, exist_ok=True)
        targets = Counter(_target(path, batch) for path in batch.files)
        for target, recordings in targets.items():
            if recordings > 1:
                raise InvalidRequest(f"{recordings} of the recordings would be written to {target}")
    registry = load(settings, in_process=True)
    media = Media(
        Scanner(),
        workers=settings.media_workers,
        spool_bytes=settings.spool_bytes,
        max_audio_s=settings.max_audio_seconds,
    )
    try:
        failed = asyncio.run(_all(Pipeline(media, registry, max_windows=settings.max_windows), batch))
    finally:
        media.close()
        registry.close()
    return 1 if failed else 0


async def _all(pipeline: Pipeline, batch: Batch) -> int:
    failed = 0
    for path in batch.files:
        try:
            transcript = await _one(pipeline, path, batch.options)
            _write(path, transcript, batch)
        except Exception as error:  # whatever is wrong with one recording, the others go on
            failed += 1
            print(f"sotto: {path}: {error}", file=sys.stderr)
    return failed


async def _one(pipeline: Pipeline, path: Path, options: TranscriptionOptions) -> Transcript:
    with path.open("rb") as file:
        transcription = pipeline.transcribe(
            UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, path.name), options
        )
        progress = asyncio.create_task(_show_progress(path, transcription))
        try:
            return await transcription.result()
        finally:
            progress.cancel()
            await asyncio.gather(progress, return_exceptions=True)
            await transcription.close()


async def _show_progress(path: Path, transcription: Transcription) -> None:
    """A bar in seconds of audio, on a terminal only."""
    with tqdm(desc=path.name, unit="s", disable=None, leave=False, file=sys.stderr) as bar:
        while True:
            bar.total = transcription.duration_hint_s
            bar.n = round(transcription.done_s, 1)
            bar.refresh()
            await asyncio.sleep(PROGRESS_S)


def _write(path: Path, transcript: Transcript, batch: Batch) -> None:
    _, body = render(transcript, batch.options)
    if batch.output is None:
        sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
        sys.stdout.flush()
        return
    target = _target(path, batch)
    half = target.with_name(f".{target.name}.part")
    half.write_bytes(body)  # renamed when complete: an interrupted run leaves nothing half-written
    half.replace(target)


def _target(path: Path, batch: Batch) -> Path:
    return (batch.output or Path()) / f"{path.stem}{SUFFIXES[batch.options.response_format]}"
