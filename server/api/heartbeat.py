"""An answer that begins before its work has ended, and the client that may be gone by then.

What fails before the first byte is an error response like any other; what fails later is told inside.
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

HEARTBEAT_S = 10.0  # proxies and clients hang up after 30 s without a byte, some of them
LAST_WORD_S = 5.0  # in which a client that reads slowly may take why its answer ends
# Comments are the only filler that every client takes: a `retry:`, an `id:` or an empty event ends OpenAI's
# Python client.
COMMENT = b": still working\r\n\r\n"
DONE = b"data: [DONE]\r\n\r\n"

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class Cancellable(Protocol):
    """What an answer waits for; once cancelled, whoever waits for it gets `Cancelled`."""

    def cancel(self) -> object: ...


@asynccontextmanager
async def ended_with_client(receive: Receive, work: Cancellable) -> AsyncIterator[None]:
    """Cancel `work` as soon as the client is gone. Its body was read, so nothing else can come from it."""

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
    """How a response that begins early is written: what fills a silence, and an error inside of it."""

    content_type: str
    filler: bytes
    error: Callable[[SottoError], bytes]


class HeartbeatResponse(Response):
    """Sends `chunks` as they come. A None among them has nothing to send, and leaves room for a heartbeat.

    A heartbeat is the filler of `framing`, where nothing was sent for `silence_s`. Cancels `work`, which `chunks`
    wait for, when the client leaves. `held` is closed at the end: what the work needs, itself included.
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
                # For the gate's log: by its status all is well.
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
    """An answer whose head is sent with its first bytes. Each call waits while the client does not read."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        self.begun = False
        self._head: Message = {"type": "http.response.start", "status": status, "headers": headers}
        self._send = send
        self._sent_s = _now_s()

    @property
    def silent_s(self) -> float:
        """Since something was sent, or since the beginning."""
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
    """`items`, and None whenever none has come for `every_s`."""
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
    """Server-sent events in OpenAI's live form: `data:` lines that end in CRLF."""
    return "".join(f"data: {to_json(event)}\r\n\r\n" for event in events).encode()


def error_event(error: SottoError) -> bytes:
    return data(error_body(error))


SERVER_SENT_EVENTS = Framing("text/event-stream; charset=utf-8", COMMENT, error_event)


async def stop(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _known(error: BaseException) -> SottoError:
    """`error` as the client may see it; the log has the rest."""
    if isinstance(error, SottoError):
        return error
    if isinstance(error, asyncio.CancelledError):  # only uvicorn cancels: a stop has waited for as long as it may
        return Unavailable("The server is shutting down.")
    logger.error("failed after the answer had begun", exc_info=error)
    return fault()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
