"""The gate: every decision that is made before a byte of a body is read.

Pure ASGI, outermost: preflights, key, size of the body, and whether there is room for it. A rejection doesn't
read the body; the rest of the upload is discarded for a moment, so that the client can read the response (a
closed socket would look like a broken connection, and SDKs would retry the upload).

Middlewares pass results to outer middlewares and to routes in `scope["state"]`.
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
from server.api.gate.forwarded_client import ForwardedClient
from server.api.gate.key_check import KeyCheck
from server.api.gate.normalized_paths import NormalizedPaths
from server.api.gate.response_guard import ResponseGuard
from server.api.gate.route_lookup import RouteLookup
from server.api.gate.standard_headers import StandardHeaders
from server.api.gate.transcription_admission import TranscriptionAdmission
from server.api.gate.upload_pace import Pace
from server.api.gate.web_pages import WebPages
from server.api.paths import OPEN_PATHS
from server.monitoring.request_metrics import RequestMetrics
from server.settings import Settings


def middlewares(
    router: FastAPI, settings: Settings, admission: Admission, requests: RequestMetrics, open_paths: Set[str]
) -> list[Middleware]:
    """Return the middlewares, outermost first: a request passes them from the top, its response from the bottom."""
    pace = Pace(settings.min_upload_bytes_per_second, settings.upload_timeout_seconds)
    return [
        Middleware(ForwardedClient, settings.trusted_proxies),
        Middleware(NormalizedPaths),
        Middleware(StandardHeaders),
        Middleware(ResponseGuard),
        Middleware(AccessLog, requests, with_text=settings.log_text),
        Middleware(Cors, settings.origins, has_keys=bool(settings.api_keys)),
        Middleware(ErrorResponses),
        # ErrorResponses, above, answers what the following raise.
        Middleware(WebPages, settings),
        Middleware(RouteLookup, router),
        Middleware(KeyCheck, settings, open_paths=open_paths),
        Middleware(BodyLimit, settings.max_upload_bytes),
        Middleware(TranscriptionAdmission, admission, pace, settings.request_timeout_seconds),
    ]


class Gate:
    """Wraps the whole application; lifespan events bypass the middlewares."""

    def __init__(
        self,
        app: FastAPI,
        settings: Settings,
        admission: Admission,
        requests: RequestMetrics,
        *,
        open_paths: Set[str] = OPEN_PATHS,
    ) -> None:
        """Requests to routes in `open_paths` need no key."""
        self.wrapped = app
        self._outermost: ASGIApp = app
        for middleware, args, kwargs in reversed(middlewares(app, settings, admission, requests, open_paths)):
            self._outermost = middleware(self._outermost, *args, **kwargs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        enter = self._outermost if scope["type"] == "http" else self.wrapped
        await enter(scope, receive, send)
