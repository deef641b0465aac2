"""One request and its answer as they pass the gate: what an answer carries, what is left unread, how it ended."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.gate.admission import RequestProgress, Ticket
from server.api.gate.request_body import RequestBody
from server.api.paths import TRANSCRIBING, WATCHED, client_address
from server.errors import SottoError
from server.logs import new_request_id, request_id
from server.monitoring.access_log import AccessRecord, Ending
from server.monitoring.request_metrics import RequestMetrics

DISCARD_BYTES = 4 << 20
DISCARD_S = 2.0
REASON_CHARACTERS = 200
PROMPTS = frozenset({"prompt", "keywords", "hotwords"})
API_VERSION = "2020-10-01"  # OpenAI's only one

logger = logging.getLogger("server.access")


class ExchangeMiddleware:
    """Middleware: wraps each request in an `Exchange`, and writes down how it ended."""

    def __init__(self, app: ASGIApp, requests: RequestMetrics, *, with_text: bool) -> None:
        self._app = app
        self._requests = requests
        self._with_text = with_text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        token = request_id.set(exchange.id)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._write(exchange.access(with_text=self._with_text))
            request_id.reset(token)

    def _write(self, access: AccessRecord) -> None:
        self._requests.add(access)
        level = logging.DEBUG if access.route in WATCHED and access.status != 401 else logging.INFO
        logger.log(level, "%s", access, extra={"fields": access.fields()})


class Exchange:
    """Adds headers, drains what a refusal left unread."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.id = new_request_id()
        self._scope = scope
        self._body = scope["state"]["body"] = RequestBody(scope, receive)
        self._send = send
        self._left = False
        self._ended = False
        self._sent_bytes = 0
        self._status = 0
        self._reason = ""
        self._began = time.perf_counter()

    async def receive(self) -> Message:
        """The next message for the application."""
        message = await self._body.receive()
        if message["type"] == "http.disconnect" and not self._ended:
            self._left = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a response on, with our headers; its end waits until the client can have read it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
            await self._send(message)
            return
        self._sent_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body")
        if self._status >= 400:
            self._reason = self._reason or _reason(message.get("body", b""))
        if self._body.is_unread and not self._body.is_held_back and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def access(self, *, with_text: bool) -> AccessRecord:
        """What there is to say of it, now that it has ended."""
        state = self._scope["state"]
        method, path = state["request_line"]
        ended, why = self._ending(state)
        access = AccessRecord(
            client=client_address(self._scope),
            key=state.get("key_name", ""),
            method=method,
            path=path,
            route=_route(self._scope),
            status=self._status,
            ended=ended,
            why=why,
            total_s=time.perf_counter() - self._began,
            in_bytes=self._body.read_bytes,
            out_bytes=self._sent_bytes,
        )
        ticket: Ticket | None = state.get("ticket")
        return _with_work(access, ticket.work, with_text) if ticket and ticket.work else access

    def _ending(self, state: Mapping[str, Any]) -> tuple[Ending, str]:
        if self._left:
            return "left", ""
        failure: SottoError | None = state.get("failure")
        if failure:
            return "failed", _shown(failure.message, failure.code or failure.type)
        if self._status < 400:
            return "answered", ""
        return "refused" if state.get("refused") or self._status < 500 else "failed", self._reason

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["x-request-id"] = self.id
        headers["openai-processing-ms"] = str(round((time.perf_counter() - self._began) * 1000))
        headers["openai-version"] = API_VERSION
        headers["x-content-type-options"] = "nosniff"
        if self._body.is_unread:
            headers["connection"] = "close"  # else uvicorn would read on to the body's end, however far that is

    async def _discard(self) -> None:
        """Read on for a moment, and throw away what comes; then only hold the connection.

        A socket that closes with bytes unread is reset, and Node's fetch, which writes what it has before it looks
        for an answer, would throw for that.
        """
        stop_at = self._body.read_bytes + DISCARD_BYTES
        try:
            async with asyncio.timeout(DISCARD_S):
                while self._body.is_unread and self._body.read_bytes < stop_at:
                    if (await self._body.receive())["type"] != "http.request":
                        return
                if self._body.is_unread:
                    await asyncio.sleep(DISCARD_S)
        except TimeoutError:
            pass


def _route(scope: Scope) -> str:
    """The template of the route that took a request, or would have; empty where there is none."""
    path: str = scope["path"]
    return getattr(scope.get("route"), "path", path if path in TRANSCRIBING else "")


def _reason(body: bytes) -> str:
    """What an error's envelope says, for one line of a log, which nothing that a client sent can break."""
    try:
        error = json.loads(body)["error"]
        # Of a prompt nothing is for the log, and messages quote what is wrong.
        message = f"in {error['param']}" if error["param"] in PROMPTS else error["message"]
        return _shown(message, error["code"] or error["type"])
    except (ValueError, LookupError, TypeError):  # an answer that is no envelope
        return ""


def _shown(message: str, code: str) -> str:
    """For one line of a log."""
    text = f"{code}: {message}"[:REASON_CHARACTERS]
    return "".join(char if char.isprintable() else " " for char in text)


def _with_work(access: AccessRecord, work: RequestProgress, with_text: bool) -> AccessRecord:
    """`access` with what there is to tell of a transcription."""
    return replace(
        access,
        model=work.model,
        audio_s=work.audio_s,
        done_s=work.done_s,
        wait_s=work.wait_s,
        run_s=work.run_s,
        prompt=work.prompt if with_text else None,
        text=work.text if with_text else None,
    )
