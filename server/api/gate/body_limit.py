"""The size limit of request bodies."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.gate.request_body import RequestBody
from server.errors import UploadTooLarge


class BodyLimit:
    """Middleware: raises `UploadTooLarge` if the declared length or the bytes received exceed `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body: RequestBody = scope["state"]["body"]
        if body.declared_bytes > self._max_bytes:
            raise UploadTooLarge(self._max_bytes, body.declared_bytes)
        overrun = False

        async def limited() -> Message:
            nonlocal overrun
            message = await receive()
            if body.read_bytes > self._max_bytes and not overrun:
                overrun = True
                raise UploadTooLarge(self._max_bytes, body.read_bytes)
            return message

        await self._app(scope, limited, send)
