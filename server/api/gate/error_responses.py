"""Turns the gate's own errors, and a shutdown of the server, into responses in OpenAI's envelope."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import error_response
from server.errors import SottoError, Unavailable


class ErrorResponses:
    """Middleware: answers errors that inner middlewares raise; sets `state["rejected"]` for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except SottoError as error:
            scope["state"]["rejected"] = True
            await error_response(error)(scope, receive, send)
        except asyncio.CancelledError:  # only uvicorn cancels, after a shutdown's grace period
            if begun:
                raise
            await error_response(Unavailable("The server is shutting down."))(scope, receive, send)
