"""Answers that begin before the transcription has ended: events, or JSON with spaces before it.

What fails before the first byte is an error response like any other. So nothing leaves until the file has turned
out to be audio; then the first event, or a filler after some silence. What fails later is told inside.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from server.api.envelope import error_body, fault
from server.errors import SottoError, Unavailable
from server.events import Narrator, done, progress
from server.formats import JSON, Json, render, to_json
from server.options import TranscriptionOptions
from server.pipeline import Passage, Transcription
from server.transcript import Transcript

HEARTBEAT_S = 10.0  # proxies and clients hang up after 30 s without a byte, some of them
LOOK_S = 1.0
LAST_WORD_S = 5.0  # in which a client that reads slowly may take why its answer ends
DONE = b"data: [DONE]\r\n\r\n"
END: Message = {"type": "http.response.body", "body": b""}

logger = logging.getLogger(__name__)


@asynccontextmanager
async def ended_with_client(receive: Receive, transcription: Transcription) -> AsyncIterator[None]:
    """Cancel `transcription` as soon as the client is gone. Its form was read, so nothing else can come from it."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        transcription.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        await _stop(watching)


class Unfolding(Response, ABC):
    """Tells a transcription as it comes, and sends `filler` whenever nothing was sent for `silence_s`.

    `held` is closed at the end: what the transcription needs, itself included.
    """

    content_type: str
    filler: bytes

    def __init__(
        self,
        transcription: Transcription,
        options: TranscriptionOptions,
        held: AsyncExitStack,
        *,
        silence_s: float,
    ) -> None:
        self.status_code = 200
        self.background = None
        no_buffering = {"cache-control": "no-store", "x-accel-buffering": "no"}
        self.init_headers({"content-type": self.content_type, **no_buffering})
        self._transcription = transcription
        self._options = options
        self._held = held
        self._silence_s = silence_s
        self._is_audio = False
        self._begun = False
        self._sent_s = 0.0
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        self._sent_s = _now_s()
        async with self._held, ended_with_client(receive, self._transcription):
            try:
                await self._tell()
                await send(END)
            except (Exception, asyncio.CancelledError) as error:
                if not self._begun:
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORD_S):
                        await self._write(self._error(_known(error)))
                        await send(END)

    async def _tell(self) -> None:
        looking = asyncio.create_task(self._look())
        try:
            async for passage in self._transcription.passages():
                self._is_audio = True
                await self._tell_passage(passage)
            await self._tell_end(await self._transcription.result())
        finally:
            await _stop(looking)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_S, self._silence_s))
            if self._is_audio:
                await self._tell_progress()
                if _now_s() - self._sent_s >= self._silence_s:
                    await self._write(self.filler)

    async def _tell_passage(self, passage: Passage) -> None:
        """Send what a passage gives, if that is not for the end."""

    async def _tell_progress(self) -> None:
        """Send what there is to tell without a passage."""

    @abstractmethod
    async def _tell_end(self, transcript: Transcript) -> None:
        """Send all that is left."""

    @abstractmethod
    def _error(self, error: SottoError) -> bytes:
        """How an error is told inside."""

    async def _write(self, chunk: bytes) -> None:
        """Waits while the client does not read."""
        async with self._sending:
            if not self._begun:
                self._begun = True
                await self._send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._sent_s = _now_s()


class EventStream(Unfolding):
    """Server-sent events in OpenAI's live form: `data:` lines that end in CRLF, `[DONE]` behind the last.

    Heartbeats are comments, which are the only filler that every client takes: a `retry:`, an `id:` or an empty
    event ends OpenAI's Python client.
    """

    content_type = "text/event-stream; charset=utf-8"
    filler = b": still working\r\n\r\n"

    def __init__(
        self,
        transcription: Transcription,
        options: TranscriptionOptions,
        held: AsyncExitStack,
        *,
        silence_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(transcription, options, held, silence_s=silence_s)
        self._narrator = Narrator(options)
        self._done_s = 0.0
        self._progress: Json = {}

    async def _tell_passage(self, passage: Passage) -> None:
        events = [event for segment in passage.segments for event in self._narrator.segment(segment)]
        if events:
            await self._write(_data(*events))
        self._done_s = passage.done_s
        await self._tell_progress()

    async def _tell_progress(self) -> None:
        """Where it was asked for, whenever something in it has changed."""
        if "progress" in self._options.stream_events:
            one = self._transcription
            before, self._progress = self._progress, progress(self._done_s, one.duration_hint_s, one.queue_position)
            if self._progress != before:
                await self._write(_data(self._progress))

    async def _tell_end(self, transcript: Transcript) -> None:
        self._done_s = transcript.duration_s
        await self._tell_progress()
        # Tens of thousands of words are a few hundred milliseconds of formatting: not on the loop.
        last = await asyncio.to_thread(lambda: _data(done(transcript, self._options)))
        await self._write(last + DONE)

    def _error(self, error: SottoError) -> bytes:
        return _data(error_body(error))


class SpacedJson(Unfolding):
    """A JSON answer with a space before it for every `silence_s` of work: readers of JSON skip them."""

    content_type = JSON
    filler = b" "

    async def _tell_end(self, transcript: Transcript) -> None:
        _, body = await asyncio.to_thread(render, transcript, self._options)
        await self._write(body)

    def _error(self, error: SottoError) -> bytes:
        return to_json(error_body(error)).encode()


def _data(*events: Json) -> bytes:
    return "".join(f"data: {to_json(event)}\r\n\r\n" for event in events).encode()


def _known(error: BaseException) -> SottoError:
    """`error` as the client may see it; the log has the rest."""
    if isinstance(error, SottoError):
        logger.info("failed after the answer had begun: %s", error)
        return error
    if isinstance(error, asyncio.CancelledError):  # only uvicorn cancels: a stop has waited for as long as it may
        return Unavailable("The server is shutting down.")
    logger.error("failed after the answer had begun", exc_info=error)
    return fault()


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
