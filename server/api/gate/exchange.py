"""One request and its answer as they pass the gate: what an answer carries, what is left unread, how it ended."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from server.api.gate.admission import RequestProgress, Ticket
from server.api.paths import request_line
from server.errors import SottoError, UploadTooLarge
from server.logs import new_request_id
from server.monitoring.access_log import AccessRecord, Ending

DISCARD_BYTES = 4 << 20
DISCARD_S = 2.0
REASON_CHARACTERS = 200
PROMPTS = frozenset({"prompt", "keywords", "hotwords"})
PLAIN = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"  # what a header can hold as it is; `%` and all else is percent-encoded
API_VERSION = "2020-10-01"  # OpenAI's only one


class Exchange:
    """Counts the body, adds headers, drains what a refusal left unread."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, max_bytes: int, answer_headers: Mapping[str, str]
    ) -> None:
        headers = Headers(scope=scope)
        self.id = new_request_id()
        self.key_name = ""
        self.refused = False  # unread
        self.ticket: Ticket | None = None
        self.declared_bytes = _content_length(headers)
        self.address = str((scope.get("client") or ("unknown",))[0])
        self._asked = request_line(scope)
        self._receive, self._send = receive, send
        self._max_bytes = max_bytes
        self._answer_headers = answer_headers
        self._read_bytes = 0
        self._body_left = self.declared_bytes > 0 or "transfer-encoding" in headers
        # A client that waits for 100 Continue has sent no body and won't after a refusal.
        self._holds_back = "expect" in headers
        self._overrun = False
        self._left = False
        self._ended = False
        self._sent_bytes = 0
        self._status = 0
        self._reason = ""
        self._failure: SottoError | None = None
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
        elif not self._ended:
            self._left = True
        return message

    async def send(self, message: Message) -> None:
        """Pass a response on, with our headers; its end waits until the client can have read it."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
            await self._send(message)
            return
        self._failure = message.pop("failure", self._failure)
        self._sent_bytes += len(message.get("body", b""))
        self._ended = not message.get("more_body")
        if self._status >= 400:
            self._reason = self._reason or _reason(message.get("body", b""))
        if self._body_left and not self._holds_back and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._discard()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    def access(self, route: str, *, with_text: bool) -> AccessRecord:
        """What is told of it, now that it has ended."""
        method, path = self._asked
        ended, why = self._ending()
        access = AccessRecord(
            client=self.address,
            key=self.key_name,
            method=method,
            path=path,
            route=route,
            status=self._status,
            ended=ended,
            why=why,
            total_s=time.perf_counter() - self._began,
            in_bytes=self._read_bytes,
            out_bytes=self._sent_bytes,
        )
        return _with_work(access, self.ticket.work, with_text) if self.ticket and self.ticket.work else access

    def _ending(self) -> tuple[Ending, str]:
        if self._left:
            return "left", ""
        if failure := self._failure:
            return "failed", _shown(failure.message, failure.code or failure.type)
        if self._status < 400:
            return "answered", ""
        return "refused" if self.refused or self._status < 500 else "failed", self._reason

    def _add_headers(self, headers: MutableHeaders) -> None:
        headers["x-request-id"] = self.id
        headers["openai-processing-ms"] = str(round((time.perf_counter() - self._began) * 1000))
        headers["openai-version"] = API_VERSION
        headers["x-content-type-options"] = "nosniff"
        if self.ticket and self.ticket.model:
            headers["x-sotto-model"] = quote(self.ticket.model, safe=PLAIN)
        for name, value in self._answer_headers.items():
            headers.setdefault(name, value)
        if self._body_left:
            headers["connection"] = "close"  # else uvicorn would read on to the body's end, however far that is

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
