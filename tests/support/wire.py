"""Requests written byte by byte, for what HTTP libraries don't send: odd forms, slow bodies, clients that leave."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.support.fakes import DEADLINE_S
from tests.support.serving import TRANSCRIPTIONS

BOUNDARY = "test-boundary"

Headers = Mapping[str, str]


def part(disposition: str, content: str | bytes, *headers: str) -> bytes:
    """One part of a form; `disposition` is what follows `form-data; `."""
    lines = [f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + (content.encode() if isinstance(content, str) else content)


def field(name: str, value: str) -> bytes:
    return part(f'name="{name}"', value)


def file(content: bytes, disposition: str = 'name="file"; filename="speech.wav"', *headers: str) -> bytes:
    return part(disposition, content, *headers)


def form(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    delimiter = f"--{boundary}\r\n".encode()
    return b"".join(delimiter + one + b"\r\n" for one in parts) + f"--{boundary}--\r\n".encode()


def content_type(boundary: str = BOUNDARY) -> str:
    return f"multipart/form-data; boundary={boundary}"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection to a server. Nothing is sent that isn't asked for; nothing waits longer than `DEADLINE_S`."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self.host = f"{address.hostname}:{address.port}"
        self.socket = socket.create_connection((address.hostname, address.port), DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def fileno(self) -> int:
        return self.socket.fileno()

    def send_head(self, headers: Headers, *, method: str = "POST", path: str = TRANSCRIPTIONS) -> None:
        """The request line and the headers; a form's Content-Type unless `headers` name another."""
        every = {"Host": self.host, "Content-Type": content_type(), **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items()), "", ""]
        self.send("\r\n".join(lines).encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; an empty one ends it."""
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def post(self, body: bytes, headers: Headers | None = None) -> Answer:
        """The answer for a whole body."""
        self.send_head({"Content-Length": str(len(body)), **(headers or {})})
        self.send(body)
        return self.answer()

    def answer(self) -> Answer:
        """The next answer, interim ones skipped."""
        response = http.client.HTTPResponse(self.socket, method="POST")
        with response:
            response.begin()
            return Answer(response.status, response.headers, response.read())
