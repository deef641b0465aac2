"""The gate: what is decided before a byte of a body is read, and what every response carries.

Pure ASGI, outermost: request id, key, size of the body, how much one client and all together may have under
way. A refusal reads nothing; what the client still sends is discarded for a moment, so that it can read the
answer (a closed socket would look like a broken connection, and SDKs would send it all again).
"""

import asyncio
import hmac
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from server.api.envelope import error_response
from server.errors import RateLimited, SottoError, Unauthorized, Unavailable, UploadTooLarge
from server.logs import request_id
from server.settings import Settings

HEALTH = "/health"  # for load balancers and container health checks
OPEN_PATHS = frozenset({HEALTH, "/docs", "/openapi.json"})  # none of them tells of anything but this version
DISCARD_BYTES = 4 << 20
DISCARD_S = 2.0

logger = logging.getLogger("server.access")


class Gate:
    """Wraps the whole application."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self.wrapped = app
        self._keys = [key.get_secret_value().encode() for key in settings.api_keys]
        self._max_bytes = settings.max_upload_bytes
        self._max_requests = settings.max_requests
        self._max_per_client = settings.max_requests_per_client
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.wrapped(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._max_bytes)
        token = request_id.set(exchange.id)
        try:
            try:
                client = self._admit(scope, exchange)
                with self._counted(scope, client):
                    await self.wrapped(scope, exchange.receive, exchange.send)
            except SottoError as error:
                await error_response(error)(scope, exchange.receive, exchange.send)
            except asyncio.CancelledError:  # only uvicorn cancels: a stop has waited for as long as it may
                if exchange.begun:
                    raise
                stopping = Unavailable("The server is shutting down.")
                await error_response(stopping)(scope, exchange.receive, exchange.send)
        finally:
            exchange.log()
            request_id.reset(token)

    def _admit(self, scope: Scope, exchange: "Exchange") -> str:
        """Who the client is: its key or its address. Raises if it must not pass."""
        headers = Headers(scope=scope)
        client = (scope.get("client") or ("unknown",))[0]
        if self._keys and scope["path"] not in OPEN_PATHS:
            client = self._check_key(headers)
        if exchange.declared_bytes > self._max_bytes:
            raise UploadTooLarge(self._max_bytes, exchange.declared_bytes)
        return str(client)

    def _check_key(self, headers: Headers) -> str:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given:
            raise Unauthorized(
                "You didn't provide an API key. You need to provide your API key in an Authorization header "
                "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        # Every key is compared, and each in constant time: the answer's delay tells nothing about any.
        matches = [hmac.compare_digest(given.encode(), key) for key in self._keys]
        if not any(matches):
            raise Unauthorized(f"Incorrect API key provided: {_masked(given)}.", code="invalid_api_key")
        return given

    @contextmanager
    def _counted(self, scope: Scope, client: str) -> Iterator[None]:
        """Count a transcription as under way while it is; raises where there are too many."""
        if scope["method"] != "POST":
            yield
            return
        if self._under_way.total() >= self._max_requests:
            raise Unavailable("The server is busy with as many requests as it takes. Please try again later.")
        if self._under_way[client] >= self._max_per_client:
            raise RateLimited(
                f"Rate limit reached: {self._max_per_client} requests at once. Please try again when one has ended."
            )
        self._under_way[client] += 1
        try:
            yield
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]


class Exchange:
    """One request and its response: counts the body, adds headers, drains what a refusal left unread."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        headers = Headers(scope=scope)
        self.id = f"req_{uuid.uuid4().hex}"
        self.declared_bytes = _content_length(headers)
        self._path = scope["path"]
        self._asked = f"{scope['method']} {self._path}"
        self._receive, self._send = receive, send
        self._max_bytes = max_bytes
        self._read_bytes = 0
        self._body_left = self.declared_bytes > 0 or "transfer-encoding" in headers
        # A client that waits for 100 Continue has sent no body and won't after a refusal.
        self._holds_back = "expect" in headers
        self._overrun = False
        self._status = 0
        self._began = time.perf_counter()

    @property
    def begun(self) -> bool:
        """Whether an answer is on its way."""
        return self._status != 0

    async def receive(self) -> Message:
        """The next message for the application; raises `UploadTooLarge` beyond the limit."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._count(message)
            if self._read_bytes > self._max_bytes and not self._overrun:
                self._overrun = True
                raise UploadTooLarge(self._max_bytes, self._read_bytes)
        return message

    async def send(self, message: Message) -> None:
        """Pass a response on, with our headers; its end waits until the client can have read it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.id
            headers["openai-processing-ms"] = str(round((time.perf_counter() - self._began) * 1000))
            headers["x-content-type-options"] = "nosniff"
            if self._body_left:
                headers["connection"] = "close"  # else uvicorn would read on to the body's end, however far that is
        elif self._body_left and not self._holds_back and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def log(self) -> None:
        seconds = time.perf_counter() - self._began
        # Health checks come every few seconds for ever.
        level = logging.DEBUG if self._path == HEALTH else logging.INFO
        logger.log(level, "%s %d %.3fs", self._asked, self._status, seconds)

    def _count(self, message: Message) -> None:
        self._read_bytes += len(message.get("body", b""))
        self._body_left = message.get("more_body", False)
        self._holds_back = False

    async def _discard(self) -> None:
        """Read on for a moment, and throw away what comes; then only hold the connection.

        A socket that closes with bytes unread is reset, and Node's fetch, which writes what it has before it looks
        for an answer, would throw for that.
        """
        stop_at = self._read_bytes + DISCARD_BYTES
        try:
            async with asyncio.timeout(DISCARD_S):
                while self._body_left and self._read_bytes < stop_at:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        return
                    self._count(message)
                if self._body_left:
                    await asyncio.sleep(DISCARD_S)
        except TimeoutError:
            pass


def _content_length(headers: Headers) -> int:
    value = headers.get("content-length", "")
    return int(value) if value.isdecimal() else 0


def _masked(key: str) -> str:
    """Enough of a key to recognise it by, as OpenAI shows it; short ones not at all."""
    return f"{key[:8]}***{key[-4:]}" if len(key) > 20 else "***"
