"""Makes sure that a response sent before its request's body was read reaches the client."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.gate.request_body import RequestBody

DISCARD_BYTES = 4 << 20
DISCARD_S = 2.0


class ResponseGuard:
    """Middleware: discards the unread body before the response ends. Sets `state["body"]`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = scope["state"]["body"] = RequestBody(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start" and body.is_unread:
                # Otherwise uvicorn would read the whole rest of the body, however long it is.
                MutableHeaders(scope=message)["connection"] = "close"
            elif _is_end(message) and body.is_unread and not body.is_held_back:
                await send({**message, "more_body": True})
                await _discard(body)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, body.receive, guarded)


def _is_end(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body")


async def _discard(body: RequestBody) -> None:
    """Read and discard the body for a moment; then only keep the connection open.

    Closing a socket with unread bytes resets it, and Node's fetch, which writes its data before it looks for a
    response, would throw.
    """
    stop_at = body.read_bytes + DISCARD_BYTES
    try:
        async with asyncio.timeout(DISCARD_S):
            while body.is_unread and body.read_bytes < stop_at:
                if (await body.receive())["type"] != "http.request":
                    return
            if body.is_unread:
                await asyncio.sleep(DISCARD_S)
    except TimeoutError:
        pass
