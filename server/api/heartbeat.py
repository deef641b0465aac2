"""An answer that begins before its work has ended, and the client that may be gone by then.

What fails before the first byte is an error response like any other; what fails later is told inside.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Protocol

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from server.api.errors import error_body, fault
from server.errors import SottoError, Unavailable
from server.formats.render import Json, to_json

HEARTBEAT_S = 10.0  # proxies and clients hang up after 30 s without a byte, some of them
LAST_WORD_S = 5.0  # in which a client that reads slowly may take why its answer ends
EVENTS = "text/event-stream; charset=utf-8"
# Comments are the only filler that every client takes: a `retry:`, an `id:` or an empty event ends OpenAI's
# Python client.
COMMENT = b": still working\r\n\r\n"
DONE = b"data: [DONE]\r\n\r\n"
END: Message = {"type": "http.response.body", "body": b""}

logger = logging.getLogger(__name__)


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


class HeartbeatResponse(Response, ABC):
    """Tells of `work` as it comes; `_fill` sends `filler` where nothing was sent for `silence_s`.

    `held` is closed at the end: what the work needs, itself included.
    """

    content_type: str
    filler: bytes

    def __init__(self, work: Cancellable, held: AsyncExitStack, *, silence_s: float) -> None:
        self.status_code = 200
        self.background = None
        no_buffering = {"cache-control": "no-store", "x-accel-buffering": "no"}
        self.init_headers({"content-type": self.content_type, **no_buffering})
        self._work = work
        self._held = held
        self._silence_s = silence_s
        self._begun = False
        self._sent_s = 0.0
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        state = scope.setdefault("state", {})
        self._sent_s = _now_s()
        async with self._held, ended_with_client(receive, self._work):
            try:
                await self._tell()
                await send(END)
            except (Exception, asyncio.CancelledError) as error:
                if not self._begun:
                    raise
                # For the gate's log: by its status all is well.
                known = state["failure"] = _known(error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORD_S):
                        await self._write(self._error(known))
                        await send(END)

    @abstractmethod
    async def _tell(self) -> None:
        """Send everything."""

    @abstractmethod
    def _error(self, error: SottoError) -> bytes:
        """How an error is told inside."""

    @property
    def _silent_s(self) -> float:
        return _now_s() - self._sent_s

    async def _fill(self) -> None:
        if self._silent_s >= self._silence_s:
            await self._write(self.filler)

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


def data(*events: Json) -> bytes:
    """Server-sent events in OpenAI's live form: `data:` lines that end in CRLF."""
    return "".join(f"data: {to_json(event)}\r\n\r\n" for event in events).encode()


def error_event(error: SottoError) -> bytes:
    return data(error_body(error))


async def stop(task: asyncio.Task[None]) -> None:
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
