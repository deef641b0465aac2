"""A transcription that is told as it comes: as events, or as JSON with spaces before it.

Nothing leaves until the file has turned out to be audio; then the first event, or a filler after some silence.
Where that takes too long, because others are decoded first, the status is settled without it.
"""

import asyncio
from abc import abstractmethod
from contextlib import AsyncExitStack

from server.api.errors import error_body
from server.api.heartbeat import COMMENT, DONE, EVENTS, HEARTBEAT_S, HeartbeatResponse, data, error_event, stop
from server.errors import SottoError
from server.formats.render import JSON, Json, render, to_json
from server.formats.stream_events import DeltaWriter, done, progress
from server.options import TranscriptionOptions
from server.transcript import Transcript
from server.transcription.pipeline import SegmentGroup, Transcription

LOOK_S = 1.0
LONGEST_S = 25.0  # without a byte: some proxies and clients hang up after 30 s


class TranscriptionResponse(HeartbeatResponse):
    """Tells a transcription as it comes, and sends `filler` whenever nothing was sent for `silence_s`."""

    def __init__(
        self,
        transcription: Transcription,
        options: TranscriptionOptions,
        held: AsyncExitStack,
        *,
        silence_s: float,
    ) -> None:
        super().__init__(transcription, held, silence_s=silence_s)
        self._transcription = transcription
        self._options = options

    async def _tell(self) -> None:
        looking = asyncio.create_task(self._look())
        try:
            async for passage in self._transcription.passages():
                await self._tell_passage(passage)
            await self._tell_end(await self._transcription.result())
        finally:
            await stop(looking)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_S, self._silence_s))
            if self._begun or self._transcription.is_audio or self._silent_s >= LONGEST_S:
                await self._tell_progress()
                await self._fill()

    async def _tell_passage(self, passage: SegmentGroup) -> None:
        """Send what a passage gives, if that is not for the end."""

    async def _tell_progress(self) -> None:
        """Send what there is to tell without a passage."""

    @abstractmethod
    async def _tell_end(self, transcript: Transcript) -> None:
        """Send all that is left."""


class EventStream(TranscriptionResponse):
    """Server-sent events in OpenAI's live form, `[DONE]` behind the last."""

    content_type = EVENTS
    filler = COMMENT

    def __init__(
        self,
        transcription: Transcription,
        options: TranscriptionOptions,
        held: AsyncExitStack,
        *,
        silence_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(transcription, options, held, silence_s=silence_s)
        self._narrator = DeltaWriter(options)
        self._done_s = 0.0
        self._language: str | None = None
        self._progress: Json = {}

    async def _tell_passage(self, passage: SegmentGroup) -> None:
        events = [event for segment in passage.segments for event in self._narrator.segment(segment)]
        if events:
            await self._write(data(*events))
        self._done_s = passage.done_s
        if passage.segments:
            self._language = self._transcription.language
        await self._tell_progress()

    async def _tell_progress(self) -> None:
        """Where it was asked for, whenever something in it has changed."""
        if "progress" in self._options.stream_events:
            one = self._transcription
            now = progress(self._done_s, one.duration_hint_s, one.queue_position, self._language)
            before, self._progress = self._progress, now
            if now != before:
                await self._write(data(now))

    async def _tell_end(self, transcript: Transcript) -> None:
        self._done_s = transcript.duration_s
        await self._tell_progress()
        # Tens of thousands of words are a few hundred milliseconds of formatting: not on the loop.
        last = await asyncio.to_thread(lambda: data(done(transcript, self._options)))
        await self._write(last + DONE)

    def _error(self, error: SottoError) -> bytes:
        return error_event(error)


class HeartbeatJson(TranscriptionResponse):
    """A JSON answer with a space before it for every `silence_s` of work: readers of JSON skip them."""

    content_type = JSON
    filler = b" "

    async def _tell_end(self, transcript: Transcript) -> None:
        _, body = await asyncio.to_thread(render, transcript, self._options)
        await self._write(body)

    def _error(self, error: SottoError) -> bytes:
        return to_json(error_body(error)).encode()
