"""Reads JSON bodies into memory, with limits on size, time, and the total held at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from server.api.gate.request_body import RequestBody
from server.api.gate.upload_pace import Pace, PacedReceive
from server.errors import InvalidRequest, Unavailable, UploadTooLarge


class JsonBodies:
    """Reads the bodies of one route. Not thread-safe."""

    def __init__(self, max_bytes: int, total_bytes: int, pace: Pace, *, setting: str) -> None:
        """`setting` names the setting behind `max_bytes`; `total_bytes` limits all bodies held at once."""
        self.max_bytes = max_bytes
        self.setting = setting
        self._total_bytes = total_bytes
        self._pace = pace
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the whole body, which counts until the block ends.

        Raises `InvalidRequest` if its content type is not JSON, `UploadTooLarge`, `UploadTooSlow`, and
        `Unavailable` if the bodies of other requests fill `total_bytes`.
        """
        _check_content_type(request.headers.get("content-type", ""))
        counted: RequestBody = request.state.body
        body = _Body(self)
        body.check(counted.declared_bytes)
        try:
            receive = PacedReceive(request.receive, counted, body, self._pace)
            yield b"".join([part async for part in Request(request.scope, receive).stream()])
        finally:
            self._held_bytes -= body.count

    def hold(self, count: int) -> None:
        self._held_bytes += count
        if self._held_bytes > self._total_bytes:
            raise Unavailable("The server is rendering too many transcripts at once. Please try again in 2s.")


class _Body:
    """A body that is being read."""

    deadline: float | None = None

    def __init__(self, bodies: JsonBodies) -> None:
        self.uploading = True
        self.count = 0
        self._bodies = bodies

    def receive(self, received_bytes: int, *, more: bool) -> None:
        more_bytes, self.count = received_bytes - self.count, received_bytes
        self.uploading = more
        self._bodies.hold(more_bytes)
        self.check(received_bytes)

    def check(self, count: int) -> None:
        if count > self._bodies.max_bytes:
            raise UploadTooLarge(self._bodies.max_bytes, count, setting=self._bodies.setting)


def _check_content_type(given: str) -> None:
    kind = given.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidRequest(
            f"Invalid Content-Type header ({given[:100] or 'none'}), expected application/json. "
            "(HINT: If you're using curl, you can pass -H 'Content-Type: application/json'.)"
        )
