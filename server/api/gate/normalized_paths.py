"""Rewrites every spelling of a route's path to its one address."""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.paths import normalized, request_line


class NormalizedPaths:
    """Middleware: rewrites the path; the client's original is kept in `state["request_line"]`, for the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entered = normalized(scope)
        entered.setdefault("state", {})["request_line"] = request_line(scope)
        await self._app(entered, receive, send)
