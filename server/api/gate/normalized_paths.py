"""One address for each route, whichever of its spellings a client uses."""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.paths import normalized, request_line


class NormalizedPaths:
    """Middleware: rewrites the path; what the client wrote stays in `state["request_line"]`, for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entered = normalized(scope)
        entered.setdefault("state", {})["request_line"] = request_line(scope)
        await self._app(entered, receive, send)
