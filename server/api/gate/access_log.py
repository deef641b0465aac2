"""Writes a log line and updates the metrics for each request that has ended."""

import json
import logging
import time
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.gate.repeated_lines import RepeatedLines
from server.api.gate.request_body import RequestBody
from server.api.gate.ticket import RequestProgress, Ticket
from server.api.paths import WATCHED, client_address
from server.errors import SottoError
from server.monitoring.access_log import AccessRecord, Ending
from server.monitoring.request_metrics import RequestMetrics

REASON_CHARACTERS = 200
PROMPTS = frozenset({"prompt", "keywords", "hotwords"})

logger = logging.getLogger("server.access")


class AccessLog:
    """Middleware: makes an `AccessRecord` from the messages that pass and from the state that other middlewares
    set.

    It wraps every middleware that rejects requests, but not the one that drains a rejected body: the client may
    disconnect during that. Lines of clients without a valid key may be left out: those are logged at level debug.
    """

    def __init__(self, app: ASGIApp, requests: RequestMetrics, *, with_text: bool) -> None:
        self._app = app
        self._requests = requests
        self._with_text = with_text
        self._refused = RepeatedLines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        answer = ObservedAnswer(receive, send)
        try:
            await self._app(scope, answer.receive, answer.send)
        finally:
            access = _record(scope, answer, time.perf_counter() - began, with_text=self._with_text)
            self._requests.add(access)
            self._write(access, key_refused=_key_refused(scope, access.status))

    def _write(self, access: AccessRecord, *, key_refused: bool) -> None:
        left_out = self._refused.left_out_before(access.client) if key_refused else 0
        watched = access.route in WATCHED and not key_refused
        level = logging.DEBUG if watched or left_out is None else logging.INFO
        access = replace(access, left_out=left_out or None)
        logger.log(level, "%s", access, extra={"fields": access.fields()})


class ObservedAnswer:
    """The status of a response (0 if there was none) and, for an error, the `reason` from its envelope.

    `client_disconnected` is True if the client disconnected before the response was complete.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self.status = 0
        self.sent_bytes = 0
        self.reason = ""
        self.client_disconnected = False
        self._ended = False
        self._receive, self._send = receive, send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._ended:
            self.client_disconnected = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            body = message.get("body", b"")
            self.sent_bytes += len(body)
            self._ended = not message.get("more_body")
            if self.status >= 400:
                self.reason = self.reason or _reason(body)
        await self._send(message)


def _record(scope: Scope, answer: ObservedAnswer, total_s: float, *, with_text: bool) -> AccessRecord:
    state = scope["state"]
    body: RequestBody = state["body"]
    method, path = state["request_line"]
    ended, why = _ending(answer, rejected=state.get("rejected", False), failure=state.get("failure"))
    access = AccessRecord(
        client=client_address(scope),
        key=state.get("key_name", ""),
        method=method,
        path=path,
        route=state.get("route", ""),
        status=answer.status,
        ended=ended,
        why=why,
        total_s=total_s,
        in_bytes=body.read_bytes,
        out_bytes=answer.sent_bytes,
    )
    ticket: Ticket | None = state.get("ticket")
    return _with_work(access, ticket.work, with_text) if ticket and ticket.work else access


def _key_refused(scope: Scope, status: int) -> bool:
    """True if the key was missing or wrong, or not looked at since too many had been wrong."""
    return status == 401 or (status == 429 and "key_name" not in scope["state"])


def _ending(answer: ObservedAnswer, *, rejected: bool, failure: SottoError | None) -> tuple[Ending, str]:
    """Return how the request ended, and why; `failure` happened after a successful status had been sent."""
    if answer.client_disconnected:
        return "disconnected", ""
    if failure:
        return "failed", _shown(failure.message, failure.code or failure.type)
    if answer.status < 400:
        return "completed", ""
    return "rejected" if rejected or answer.status < 500 else "failed", answer.reason


def _reason(body: bytes) -> str:
    """Return the message of an error's envelope as one printable line of a log, whatever the client sent."""
    try:
        error = json.loads(body)["error"]
        # A prompt must not reach the log, and messages quote the invalid value.
        message = f"in {error['param']}" if error["param"] in PROMPTS else error["message"]
        return _shown(message, error["code"] or error["type"])
    except (ValueError, LookupError, TypeError):  # not an error envelope
        return ""


def _shown(message: str, code: str) -> str:
    """Format an error as one printable line for the log."""
    text = f"{code}: {message}"[:REASON_CHARACTERS]
    return "".join(char if char.isprintable() else " " for char in text)


def _with_work(access: AccessRecord, work: RequestProgress, with_text: bool) -> AccessRecord:
    """Return `access` with the figures of a transcription."""
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
