"""Finds the route that will take a request, so that the gate decides by the same match as the router."""

import re
from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.paths import request_line
from server.errors import NotFound

# No client has these in a path, and Python's `$`, in the patterns of routes, matches before a last newline too.
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RouteLookup:
    """Middleware: sets `state["route"]` to the path template of the matching route, empty if there is none.

    Raises `NotFound` for a path with control characters.
    """

    def __init__(self, app: ASGIApp, router: FastAPI) -> None:
        self._app = app
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if CONTROL_CHARACTER.search(scope["path"]):
            asked = " ".join(request_line(scope))
            raise NotFound(f"Invalid URL ({asked}). A path may not contain control characters.")
        scope["state"]["route"] = _template(self._router, scope)
        await self._app(scope, receive, send)


def _template(router: FastAPI, scope: Scope) -> str:
    """Return the path of the first route that matches; one that lacks only the method counts last."""
    partial = ""
    for route in _routes(router):
        match, _ = route.matches(scope)
        if match is Match.FULL:
            return str(getattr(route, "path", ""))
        if match is Match.PARTIAL:
            partial = partial or str(getattr(route, "path", ""))
    return partial


def _routes(router: FastAPI) -> Iterator[BaseRoute]:
    for context in iter_route_contexts(router.routes):
        yield context.original_route
