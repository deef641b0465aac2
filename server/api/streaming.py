"""Streams a transcription while it is made: as events, or as JSON preceded by spaces.

Nothing is sent until the file is known to be audio; then the first event, or a filler after some silence. If
that takes too long, because others are decoded first, the status is sent without waiting for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from server.api.errors import error_body
from server.api.heartbeat import (
    DONE,
    HEARTBEAT_S,
    SERVER_SENT_EVENTS,
    Framing,
    HeartbeatResponse,
    data,
    ticking,
)
from server.formats.answers import ProgressEvent
from server.formats.render import JSON, render, to_json
from server.formats.stream_events import DeltaWriter, done, progress
from server.options import TranscriptionOptions
from server.transcript import Transcript
from server.transcription.pipeline import Transcription
from server.transcription.run import SegmentGroup

POLL_S = 1.0
LONGEST_S = 25.0  # without a byte: some proxies and clients disconnect after 30 s
SPACED_JSON = Framing(JSON, b" ", lambda error: to_json(error_body(error)).encode())  # JSON parsers skip the spaces

Step = SegmentGroup | Transcript


def event_stream(
    transcription: Transcription,
    options: TranscriptionOptions,
    held: AsyncExitStack,
    *,
    silence_s: float = HEARTBEAT_S,
) -> HeartbeatResponse:
    """Return server-sent events in OpenAI's live form, ending in `[DONE]`."""
    events = _events(_steps(transcription, silence_s), transcription, options)
    return HeartbeatResponse(events, SERVER_SENT_EVENTS, transcription, held, silence_s=silence_s)


def heartbeat_json(
    transcription: Transcription, options: TranscriptionOptions, held: AsyncExitStack, *, silence_s: float
) -> HeartbeatResponse:
    """Return a JSON response that sends a space after every `silence_s` of work."""
    json = _json(_steps(transcription, silence_s), options)
    return HeartbeatResponse(json, SPACED_JSON, transcription, held, silence_s=silence_s)


async def _steps(transcription: Transcription, silence_s: float) -> AsyncGenerator[Step | None]:
    """Yield the results, the whole transcript last; None at intervals, once the status may be sent."""
    began_s = _now_s()
    async with aclosing(ticking(_results(transcription), min(POLL_S, silence_s))) as steps:
        async for step in steps:
            if step or transcription.is_audio or _now_s() - began_s >= LONGEST_S:
                yield step


async def _results(transcription: Transcription) -> AsyncGenerator[Step]:
    async for group in transcription.segment_groups():
        yield group
    yield await transcription.result()


async def _events(
    steps: AsyncGenerator[Step | None], transcription: Transcription, options: TranscriptionOptions
) -> AsyncGenerator[bytes | None]:
    writer = DeltaWriter(options)
    progress_events = _ProgressEvents(transcription)
    async with aclosing(steps):
        async for step in steps:
            segments = step.segments if isinstance(step, SegmentGroup) else ()
            if events := [event for segment in segments for event in writer.segment(segment)]:
                yield data(*events)
            if "progress" in options.stream_events and (changed := progress_events.changed(step)):
                yield data(changed)
            yield await _last_events(step, options) if isinstance(step, Transcript) else None


async def _last_events(transcript: Transcript, options: TranscriptionOptions) -> bytes:
    # Formatting tens of thousands of words takes a few hundred milliseconds: not on the event loop.
    return await asyncio.to_thread(lambda: data(done(transcript, options))) + DONE


async def _json(steps: AsyncGenerator[Step | None], options: TranscriptionOptions) -> AsyncGenerator[bytes | None]:
    async with aclosing(steps):
        async for step in steps:
            yield (await asyncio.to_thread(render, step, options))[1] if isinstance(step, Transcript) else None


class _ProgressEvents:
    """Reports the progress of a transcription whenever it changes."""

    def __init__(self, transcription: Transcription) -> None:
        self._transcription = transcription
        self._done_s = 0.0
        self._language: str | None = None
        self._last: ProgressEvent | None = None

    def changed(self, step: Step | None) -> ProgressEvent | None:
        """Return the event that follows `step`, None if it would equal the one before."""
        match step:
            case SegmentGroup():
                self._done_s = step.done_s
                self._language = self._transcription.language if step.segments else self._language
            case Transcript():
                self._done_s = step.duration_s
        one = self._transcription
        before = self._last
        self._last = progress(self._done_s, one.duration_hint_s, one.queue_position, self._language)
        return self._last if self._last != before else None


def _now_s() -> float:
    return asyncio.get_running_loop().time()
