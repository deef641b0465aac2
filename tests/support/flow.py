"""Requests over a real `MediaDecoder` and a `FakeEngine`: a second of tone is a window, or a little more."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.audio.media_decoder import MediaDecoder
from server.engine.interface import EngineLike
from server.keep_alive import FOREVER
from server.models.known_model import KnownModel
from server.options import DecodingOptions, TranscriptionOptions, UploadFd, VadOptions
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelPool
from server.pool.registry import Registry
from server.pool.slot import ModelSlot
from server.transcript import Segment, Window, WindowResult
from server.transcription.pipeline import Pipeline, Transcription
from tests.support.fakes import (
    DEADLINE_S,
    Answer,
    default_answer,
    make_media,
    make_result,
)
from tests.support.launches import Engines
from tests.support.registries import registry_of, served_model

ENGLISH = DecodingOptions(language="en")


DETECT = DecodingOptions()


Probs = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Flow:
    """A pipeline and what it works with."""

    pipeline: Pipeline
    media: MediaDecoder

    @asynccontextmanager
    async def request(
        self,
        source: UploadFd,
        decoding: DecodingOptions = ENGLISH,
        *,
        vad: bool = False,
        model: str = "",
        stream: bool = False,
    ) -> AsyncIterator[Transcription]:
        """A transcription that leaves no task and no decoded audio behind."""
        before = asyncio.all_tasks()
        options = TranscriptionOptions(model=model, stream=stream, decoding=decoding, vad=VadOptions(enabled=vad))
        transcription = self.pipeline.transcribe(source, options)
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield transcription
        finally:
            async with asyncio.timeout(DEADLINE_S):
                await transcription.close()
        assert asyncio.all_tasks() <= before


@contextmanager
def flow(
    engine: EngineLike,
    *,
    max_windows: int = 512,
    window_s: float = 1.0,
    max_audio_s: float = 3600,
    spool_bytes: int = 1 << 30,
    media: MediaDecoder | None = None,
) -> Iterator[Flow]:
    media = media or make_media(spool_bytes=spool_bytes, max_audio_s=max_audio_s)
    model = served_model(engine, names=("demo",), languages=("en", "de", "es"), window_s=window_s)
    try:
        yield Flow(Pipeline(media, registry := registry_of(model), max_windows=max_windows), media)
    finally:
        media.close()
        engine.close()
    assert media.spooled_bytes == 0
    assert registry.default.leases == 0


def texts(segments: tuple[Segment, ...] | list[Segment]) -> list[str]:
    return [segment.text.strip() for segment in segments]


def numbered(count: int) -> list[str]:
    return [f"w{index}" for index in range(count)]


def speaking(*detected: Probs) -> Answer:
    """Detects `detected` for the windows in turn, its last for later ones; the text names the language."""

    def answer(window: Window, options: DecodingOptions) -> WindowResult:
        probs = detected[min(window.index, len(detected) - 1)]
        language = options.language or probs[0][0]
        text = f" w{window.index}-{language}"
        return make_result(window, text, language=language, probs=() if options.language else probs)

    return answer


def failing_at(*bad: int) -> Answer:
    return lambda window, options: (
        ValueError(f"bad {window.index}") if window.index in bad else default_answer(window, options)
    )


@contextmanager
def unloaded(engines: Engines) -> Iterator[tuple[Flow, ModelSlot]]:
    """Over a model that is loaded when it is asked for."""
    media = make_media()
    pool = ModelPool(engines.start, Budget(lambda _: Need(0, 0)))
    pool.set_models([KnownModel(("demo",), Path("/nonexistent"), window_s=1.0)], FOREVER)
    try:
        yield Flow(Pipeline(media, Registry(pool)), media), pool.slots[0]
    finally:
        engines.load.set()
        media.close()
        pool.close()
    assert media.spooled_bytes == 0
