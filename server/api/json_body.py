"""Reads JSON bodies into memory, with limits on size, time, and the total held at once."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from server.api.gate.request_body import RequestBody
from server.api.gate.upload_pace import Pace, PacedReceive
from server.errors import InvalidRequest, RateLimited, Unavailable, UploadTooLarge
from server.quota import Quota

RETRY_S = 2


class JsonBodies:
    """Reads the bodies of one route. Not thread-safe."""

    def __init__(self, max_bytes: int, quota: Quota, pace: Pace, *, setting: str) -> None:
        """`setting` names the setting behind `max_bytes`; `quota` limits the bytes of all bodies held at once."""
        self.max_bytes = max_bytes
        self.setting = setting
        self._quota = quota
        self._pace = pace
        self._held_bytes: Counter[str] = Counter()

    @asynccontextmanager
    async def read(self, request: Request, client: str) -> AsyncIterator[bytes]:
        """Yield the whole body, which counts for `client` until the block ends.

        Raises `InvalidRequest` if its content type is not JSON, `UploadTooLarge`, `UploadTooSlow`, and if there is
        no room beside the bodies of other requests `RateLimited` or `Unavailable`.
        """
        _check_content_type(request.headers.get("content-type", ""))
        counted: RequestBody = request.state.body
        body = _Body(self, client)
        body.check(counted.declared_bytes)
        try:
            receive = PacedReceive(request.receive, counted, body, self._pace)
            yield b"".join([part async for part in Request(request.scope, receive).stream()])
        finally:
            self._held_bytes[client] -= body.count
            self._held_bytes = +self._held_bytes

    def hold(self, client: str, count: int) -> None:
        """Count `count` bytes more of a body. Raises `RateLimited` and `Unavailable`."""
        refusal = self._quota.refusal(self._held_bytes, client, count)
        self._held_bytes[client] += count
        if refusal == "share":
            text = f"Rate limit reached: bytes of transcripts to render. Limit: {self._quota.share:.0f}."
            raise RateLimited(f"{text} Please try again in {RETRY_S}s.", retry_after_s=RETRY_S)
        if refusal == "full":
            text = "The server is rendering too many transcripts at once."
            raise Unavailable(f"{text} Please try again in {RETRY_S}s.", retry_after_s=RETRY_S)


class _Body:
    """A body that is being read."""

    deadline: float | None = None

    def __init__(self, bodies: JsonBodies, client: str) -> None:
        self.uploading = True
        self.count = 0
        self._bodies = bodies
        self._client = client

    def receive(self, received_bytes: int, *, more: bool) -> None:
        more_bytes, self.count = received_bytes - self.count, received_bytes
        self.uploading = more
        self._bodies.hold(self._client, more_bytes)
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
