"""The gate: what is decided before a byte of a body is read.

Pure ASGI, outermost: preflights, key, size of the body, how much one client and all together may have under
way. A refusal reads nothing; what the client still sends is discarded for a moment, so that it can read the
answer (a closed socket would look like a broken connection, and SDKs would send it all again).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from server.api.cors import Cors
from server.api.doors import enter
from server.api.envelope import error_response
from server.api.exchange import Exchange
from server.api.keys import Keys
from server.errors import RateLimited, SottoError, Unavailable, UploadTooLarge
from server.logs import request_id
from server.settings import Settings

CHECKS = frozenset({"/health", "/ready"})  # for load balancers and container health checks
TRANSCRIBING = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
OPEN_PATHS = CHECKS | {"/docs", "/openapi.json"}  # none of them tells of what anybody does here


class Gate:
    """Wraps the whole application."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.wrapped = app
        self._keys = Keys(key.get_secret_value() for key in settings.api_keys)
        self._cors = Cors(settings.cors_origins, has_keys=bool(settings.api_keys))
        self._max_bytes = settings.max_upload_bytes
        self._max_requests = settings.max_requests
        self._max_per_client = settings.max_requests_per_client
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.wrapped(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin", "")
        exchange = Exchange(scope, receive, send, self._max_bytes, self._cors.headers(origin))
        entered = enter(scope)
        token = request_id.set(exchange.id)
        try:
            try:
                await self._pass(entered, exchange)
            except SottoError as error:
                await error_response(error)(entered, exchange.receive, exchange.send)
            except asyncio.CancelledError:  # only uvicorn cancels: a stop has waited for as long as it may
                if exchange.begun:
                    raise
                stopping = Unavailable("The server is shutting down.")
                await error_response(stopping)(entered, exchange.receive, exchange.send)
        finally:
            # Checks come every few seconds for ever.
            exchange.log(logging.DEBUG if entered["path"] in CHECKS else logging.INFO)
            request_id.reset(token)

    async def _pass(self, scope: Scope, exchange: Exchange) -> None:
        headers = Headers(scope=scope)
        if self._cors.is_preflight(scope):
            await self._cors.preflight(headers)(scope, exchange.receive, exchange.send)
            return
        address = str((scope.get("client") or ("unknown",))[0])
        exchange.key_name = "" if scope["path"] in OPEN_PATHS else self._keys.check(headers)
        if exchange.declared_bytes > self._max_bytes:
            raise UploadTooLarge(self._max_bytes, exchange.declared_bytes)
        with self._counted(scope, exchange.key_name or address):
            await self.wrapped(scope, exchange.receive, exchange.send)

    @contextmanager
    def _counted(self, scope: Scope, client: str) -> Iterator[None]:
        """Count a transcription as under way while it is; raises where there are too many."""
        if scope["method"] != "POST" or scope["path"] not in TRANSCRIBING:
            yield
            return
        if self._under_way.total() >= self._max_requests:
            raise Unavailable("The server is busy with as many requests as it takes. Please try again later.")
        if self._under_way[client] >= self._max_per_client:
            raise RateLimited(
                f"Rate limit reached: requests at once. Limit: {self._max_per_client}. "
                f"Please try again in {RateLimited.retry_after_s}s, when one has ended."
            )
        self._under_way[client] += 1
        try:
            yield
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]
