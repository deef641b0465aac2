"""The gate: what is decided before a byte of a body is read.

Pure ASGI, outermost: preflights, key, size of the body, and whether there is room for it. A refusal reads nothing;
what the client still sends is discarded for a moment, so that it can read the answer (a closed socket would look
like a broken connection, and SDKs would send it all again).
"""

import asyncio
import logging
from collections.abc import Set

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from server.api.errors import error_response
from server.api.gate.admission import Admission
from server.api.gate.cors import Cors
from server.api.gate.exchange import Exchange
from server.api.gate.keys import Keys
from server.api.gate.upload_pace import Pace, PacedReceive
from server.api.paths import normalized
from server.errors import SottoError, Unavailable, UploadTooLarge
from server.logs import request_id
from server.monitoring.access_log import AccessRecord
from server.monitoring.request_metrics import RequestMetrics
from server.settings import Settings

CHECKS = frozenset({"/health", "/ready"})  # for load balancers and container health checks
TRANSCRIBING = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
METRICS = "/metrics"
WATCHED = CHECKS | {METRICS}  # asked for every few seconds for ever
OPEN_PATHS = CHECKS | {"/docs", "/openapi.json"}  # none of them tells of what anybody does here


logger = logging.getLogger("server.access")


class Gate:
    """Wraps the whole application."""

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
        keys = [key.get_secret_value() for key in settings.api_keys]
        admin_keys = [key.get_secret_value() for key in settings.admin_keys]
        metrics_keys = [f"metrics {settings.metrics_key.get_secret_value()}"] if settings.metrics_key else []
        self._keys = Keys(keys, admin_keys)
        self._metrics_keys = Keys([*keys, *metrics_keys], admin_keys)
        self._cors = Cors(settings.cors_origins, has_keys=bool(settings.api_keys))
        self._open_paths = open_paths
        self._max_bytes = settings.max_upload_bytes
        self._pace = Pace(settings.min_upload_bytes_per_second, settings.upload_timeout_seconds)
        self._timeout_s = settings.request_timeout_seconds
        self._admission = admission
        self._requests = requests
        self._logs_text = settings.log_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.wrapped(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "")
        exchange = Exchange(scope, receive, send, self._max_bytes, self._cors.headers(origin))
        entered = normalized(scope)
        token = request_id.set(exchange.id)
        try:
            try:
                await self._pass(entered, exchange)
            except SottoError as error:
                exchange.refused = True
                await error_response(error)(entered, exchange.receive, exchange.send)
            except asyncio.CancelledError:  # only uvicorn cancels: a stop has waited for as long as it may
                if exchange.begun:
                    raise
                stopping = Unavailable("The server is shutting down.")
                await error_response(stopping)(entered, exchange.receive, exchange.send)
        finally:
            self._tell(exchange.access(_route(entered), with_text=self._logs_text))
            request_id.reset(token)

    async def _pass(self, scope: Scope, exchange: Exchange) -> None:
        headers = Headers(scope=scope)
        if self._cors.is_preflight(scope):
            await self._cors.preflight(headers)(scope, exchange.receive, exchange.send)
            return
        keys = self._metrics_keys if scope["path"] == METRICS else self._keys
        exchange.key_name = "" if scope["path"] in self._open_paths else keys.check(headers)
        if exchange.declared_bytes > self._max_bytes:
            raise UploadTooLarge(self._max_bytes, exchange.declared_bytes)
        scope.setdefault("state", {})["keys"] = self._keys
        if scope["method"] != "POST" or scope["path"] not in TRANSCRIBING:
            await self.wrapped(scope, exchange.receive, exchange.send)
            return
        now = asyncio.get_running_loop().time()
        deadline = now + self._timeout_s if self._timeout_s else None
        client = exchange.key_name or exchange.address
        with self._admission.admit(client, exchange.declared_bytes, deadline) as ticket:
            exchange.ticket = ticket
            scope["state"]["ticket"] = ticket
            await self.wrapped(scope, PacedReceive(exchange.receive, ticket, self._pace), exchange.send)

    def _tell(self, access: AccessRecord) -> None:
        self._requests.add(access)
        level = logging.DEBUG if access.route in WATCHED and access.status != 401 else logging.INFO
        logger.log(level, "%s", access, extra={"fields": access.fields()})


def _route(scope: Scope) -> str:
    """The template of the route that took a request, or would have; empty where there is none."""
    path: str = scope["path"]
    return getattr(scope.get("route"), "path", path if path in TRANSCRIBING else "")
