"""Counts the bytes of a request's body as they are read."""

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope


class RequestBody:
    """Wraps `receive` and counts what passes; inner middlewares find it in `scope["state"]["body"]`.

    `declared_bytes` is 0 if the length is unknown. `is_unread`: part of the body has not arrived yet.
    `is_held_back`: the client waits for 100 Continue, so it has sent nothing and won't after a rejection.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self.declared_bytes = _content_length(headers)
        self.read_bytes = 0
        self.is_unread = self.declared_bytes > 0 or "transfer-encoding" in headers
        self.is_held_back = "expect" in headers
        self._receive = receive

    async def receive(self) -> Message:
        """Return the next message and count its bytes."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.read_bytes += len(message.get("body", b""))
            self.is_unread = message.get("more_body", False)
            self.is_held_back = False
        return message


def _content_length(headers: Headers) -> int:
    if "transfer-encoding" in headers:  # counts before a Content-Length, which may then be wrong
        return 0
    value = headers.get("content-length", "")
    return int(value) if value.isdecimal() else 0
