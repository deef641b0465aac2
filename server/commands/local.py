"""Runs the server's engine in this process, for commands that need no server."""

from collections.abc import Iterator
from contextlib import contextmanager

from server.audio.media_decoder import open_media
from server.audio.scanner import Scanner
from server.options import TranscriptionOptions, UploadFd
from server.pool.registry import load
from server.pool.served_model import ServedModel
from server.settings import Settings
from server.transcription.pipeline import Pipeline, Transcription

BATCHES_AHEAD = 2  # full batches kept ready, from the recordings under way


class LocalTranscriber:
    """Transcribes with the default model, which may be the `demo`."""

    def __init__(self, pipeline: Pipeline, model: ServedModel, *, demo: bool) -> None:
        self._pipeline = pipeline
        self.model = model
        self.demo = demo
        self.at_once = max(model.engine.max_batch, 2)
        self.ahead_s = BATCHES_AHEAD * self.at_once * model.known.window_s

    def transcribe(self, source: UploadFd, options: TranscriptionOptions) -> Transcription:
        return self._pipeline.transcribe(source, options)


@contextmanager
def opened(settings: Settings) -> Iterator[LocalTranscriber]:
    """Load the model that `settings` name; shut everything down when the block ends."""
    registry = load(settings, in_process=True)
    model = registry.default.served
    assert model  # noqa: S101 - loaded in this process, or an error was raised
    media = open_media(settings, Scanner(), one_client=True)
    try:
        pipeline = Pipeline(media, registry, max_windows=settings.max_windows)
        yield LocalTranscriber(pipeline, model, demo=registry.default.known.demo)
    finally:
        media.close()
        registry.close()
