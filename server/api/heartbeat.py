"""A response that begins before its work has ended, and clients that disconnect meanwhile.

A failure before the first byte is an ordinary error response; a later one is reported in the body.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from server.api.errors import error_body, fault
from server.errors import SottoError, Unavailable
from server.formats.render import Json, to_json

HEARTBEAT_S = 10.0  # some proxies and clients disconnect after 30 s without a byte
LAST_WORD_S = 5.0  # for a slow client to read the error that ends its response
# Comments are the only filler that every client accepts: a `retry:`, an `id:` or an empty event ends OpenAI's
# Python client.
COMMENT = b": still working\r\n\r\n"
DONE = b"data: [DONE]\r\n\r\n"

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class Cancellable(Protocol):
    """Work that a response waits for; once it is cancelled, waiting for it raises `Cancelled`."""

    def cancel(self) -> object: ...


@asynccontextmanager
async def ended_with_client(receive: Receive, work: Cancellable) -> AsyncIterator[None]:
    """Cancel `work` as soon as the client disconnects. The body has been read, so no other message can arrive."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        work.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        await stop(watching)


@dataclass(frozen=True, slots=True)
class Framing:
    """The format of a response that begins early: the filler for silences, and an error in the body."""

    content_type: str
    filler: bytes
    error: Callable[[SottoError], bytes]


class HeartbeatResponse(Response):
    """Sends `chunks` as they arrive; a None among them is an opportunity for a heartbeat.

    A heartbeat is the filler of `framing`, sent after `silence_s` without a byte. When the client disconnects,
    cancels `work`, which `chunks` wait for. Closes `held`, the work and its resources, at the end.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes | None],
        framing: Framing,
        work: Cancellable,
        held: AsyncExitStack,
        *,
        silence_s: float = HEARTBEAT_S,
    ) -> None:
        self.status_code = 200
        self.background = None
        no_buffering = {"cache-control": "no-store", "x-accel-buffering": "no"}
        self.init_headers({"content-type": framing.content_type, **no_buffering})
        self._chunks = chunks
        self._framing = framing
        self._work = work
        self._held = held
        self._silence_s = silence_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _DeferredAnswer(self.status_code, self.raw_headers, send)
        async with self._held, ended_with_client(receive, self._work):
            try:
                await self._send_all(answer)
            except (Exception, asyncio.CancelledError) as error:
                if not answer.begun:
                    raise
                # For the log, as the status says success.
                known = scope.setdefault("state", {})["failure"] = _known(error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORD_S):
                        await answer.write(self._framing.error(known))
                        await answer.end()

    async def _send_all(self, answer: "_DeferredAnswer") -> None:
        async with aclosing(self._chunks):
            async for chunk in self._chunks:
                if chunk is not None:
                    await answer.write(chunk)
                elif answer.silent_s >= self._silence_s:
                    await answer.write(self._framing.filler)
        await answer.end()


class _DeferredAnswer:
    """A response whose head is sent with its first bytes. Each call waits while the client does not read."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self.begun = False
        self._head: Message = {"type": "http.response.start", "status": status, "headers": headers}
        self._send = send
        self._sent_s = _now_s()

    @property
    def silent_s(self) -> float:
        """Seconds since something was sent, or since the beginning."""
        return _now_s() - self._sent_s

    async def write(self, chunk: bytes) -> None:
        if not self.begun:
            self.begun = True
            await self._send(self._head)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sent_s = _now_s()

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


async def ticking(items: AsyncGenerator[Item], every_s: float) -> AsyncGenerator[Item | None]:
    """Yield `items`, and None whenever `every_s` passes without one."""
    async with aclosing(items):
        coming = asyncio.ensure_future(anext(items))
        try:
            while True:
                await asyncio.wait([coming], timeout=every_s)
                if coming.done():
                    yield coming.result()
                    coming = asyncio.ensure_future(anext(items))
                else:
                    yield None
        except StopAsyncIteration:
            return
        finally:
            await stop(coming)


def data(*events: Json) -> bytes:
    """Return server-sent events in OpenAI's live form: `data:` lines that end in CRLF."""
    return "".join(f"data: {to_json(event)}\r\n\r\n" for event in events).encode()


def error_event(error: SottoError) -> bytes:
    return data(error_body(error))


SERVER_SENT_EVENTS = Framing("text/event-stream; charset=utf-8", COMMENT, error_event)


async def stop(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _known(error: BaseException) -> SottoError:
    """Return `error` as the client may see it; the log has the details."""
    if isinstance(error, SottoError):
        return error
    if isinstance(error, asyncio.CancelledError):  # only uvicorn cancels, after a shutdown's grace period
        return Unavailable("The server is shutting down.")
    logger.error("the request failed after its response had started", exc_info=error)
    return fault()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
