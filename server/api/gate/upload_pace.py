"""Reads the body of an admitted request: enforces a minimum pace and the room for uploads."""

import asyncio
import math
from dataclasses import dataclass
from typing import Protocol

from starlette.types import Message, Receive

from server.api.gate.request_body import RequestBody
from server.errors import RequestTimeout, UploadTookTooLong, UploadTooSlow

LONGEST_S = 6 * 3600.0  # of any upload


@dataclass(frozen=True, slots=True)
class Pace:
    """The minimum pace of an upload, which it may fall behind by `patience_s`; 0 bytes means no minimum.

    In any case it may take `longest_s`.
    """

    bytes_per_s: int
    patience_s: float
    longest_s: float = LONGEST_S


class Upload(Protocol):
    """A body counted as it arrives: `uploading` until it is complete. `deadline` is by the event loop's clock."""

    uploading: bool
    deadline: float | None

    def receive(self, received_bytes: int, *, more: bool) -> None: ...


class PacedReceive:
    """A `Receive` that raises if the body of `ticket` arrives too slowly; has no effect once it is complete."""

    def __init__(self, receive: Receive, body: RequestBody, ticket: Upload, pace: Pace) -> None:
        """`body` counts the bytes that `receive` returns."""
        self._receive = receive
        self._body = body
        self._ticket = ticket
        self._pace = pace
        self._patience_s = pace.patience_s  # the patience left
        self._end_s: float | None = None  # by the event loop's clock; set with its first message

    async def __call__(self) -> Message:
        """Raise `UploadTooSlow`, `RequestTimeout`, and `Unavailable` or `RateLimited` if there is no room left."""
        if not self._ticket.uploading:
            return await self._receive()
        message = await self._in_time()
        self._ticket.receive(self._body.read_bytes, more=message.get("more_body", False))
        return message

    async def _in_time(self) -> Message:
        """Return the next part. Only the wait for it counts, not the server's work in between."""
        clock = asyncio.get_running_loop().time
        began, before = clock(), self._body.read_bytes
        self._end_s = self._end_s or began + self._pace.longest_s
        deadline = min(self._ticket.deadline or math.inf, self._end_s)
        try:
            async with asyncio.timeout_at(deadline), asyncio.timeout(self._patience_left_s):
                message = await self._receive()
        except TimeoutError:
            if self._ticket.deadline and clock() >= self._ticket.deadline:
                raise RequestTimeout from None
            if clock() >= self._end_s:
                raise UploadTookTooLong(self._pace.longest_s) from None
            raise UploadTooSlow(self._pace.bytes_per_s) from None
        self._count(self._body.read_bytes - before, clock() - began)
        return message

    @property
    def _patience_left_s(self) -> float | None:
        return self._patience_s if self._pace.bytes_per_s else None

    def _count(self, count: int, waited_s: float) -> None:
        if self._pace.bytes_per_s:
            regained_s = count / self._pace.bytes_per_s
            self._patience_s = min(self._pace.patience_s, self._patience_s - waited_s + regained_s)
