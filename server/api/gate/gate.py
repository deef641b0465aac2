"""The gate: what is decided before a byte of a body is read.

Pure ASGI, outermost: preflights, key, size of the body, and whether there is room for it. A refusal reads nothing;
what the client still sends is discarded for a moment, so that it can read the answer (a closed socket would look
like a broken connection, and SDKs would send it all again).

What a middleware finds out of a request, and those outside of it or a route need, is in `scope["state"]`.
"""

from collections.abc import Set

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.gate.access_log import AccessLog
from server.api.gate.admission import Admission
from server.api.gate.body_limit import BodyLimit
from server.api.gate.cors import Cors
from server.api.gate.error_responses import ErrorResponses
from server.api.gate.key_check import KeyCheck
from server.api.gate.normalized_paths import NormalizedPaths
from server.api.gate.response_guard import ResponseGuard
from server.api.gate.standard_headers import StandardHeaders
from server.api.gate.transcription_admission import TranscriptionAdmission
from server.api.gate.upload_pace import Pace
from server.api.paths import OPEN_PATHS
from server.monitoring.request_metrics import RequestMetrics
from server.settings import Settings


def middlewares(
    settings: Settings, admission: Admission, requests: RequestMetrics, open_paths: Set[str]
) -> list[Middleware]:
    """The gate's order, outermost first: a request passes it from the top, its answer from the bottom."""
    pace = Pace(settings.min_upload_bytes_per_second, settings.upload_timeout_seconds)
    return [
        Middleware(NormalizedPaths),
        Middleware(StandardHeaders),
        Middleware(ResponseGuard),
        Middleware(AccessLog, requests, with_text=settings.log_text),
        Middleware(Cors, settings.cors_origins, has_keys=bool(settings.api_keys)),
        Middleware(ErrorResponses),
        # What these raise is answered by the one above.
        Middleware(KeyCheck, settings, open_paths=open_paths),
        Middleware(BodyLimit, settings.max_upload_bytes),
        Middleware(TranscriptionAdmission, admission, pace, settings.request_timeout_seconds),
    ]


class Gate:
    """Wraps the whole application; the server's own start and stop go straight to it."""

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        admission: Admission,
        requests: RequestMetrics,
        *,
        open_paths: Set[str] = OPEN_PATHS,
    ) -> None:
        """Paths in `open_paths` need no key."""
        self.wrapped = app
        self._outermost: ASGIApp = app
        for middleware, args, kwargs in reversed(middlewares(settings, admission, requests, open_paths)):
            self._outermost = middleware(self._outermost, *args, **kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        enter = self._outermost if scope["type"] == "http" else self.wrapped
        await enter(scope, receive, send)
