"""Conversations that no HTTP library would hold, any number of them, the same ones each time.

`conversation(n, key)` is the n-th: one or more requests with odd heads, framing and bodies, all or part of them
broken, and how they are sent.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from server.api.h11_connection import HEAD_BYTES
from tests.support.bad_inputs import wav
from tests.support.serving import TRANSCRIPTIONS
from tests.support.wire import BOUNDARY, field, file, form

End = Literal["read", "half-close", "leave", "reset"]

FORM = form(field("model", "whisper-1"), file(wav(bytes(8_000))))
BODIES = (
    *[FORM] * 6,
    FORM[: len(FORM) // 2],
    b"",
    b"x",
    bytes(100_000),
    b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"{}",
)
METHODS = (
    "POST",
    "GET",
    "HEAD",
    "OPTIONS",
    "DELETE",
    "PUT",
    "PATCH",
    "BREW",
    "CONNECT",
    "TRACE",
    "get",
    "",
)
PATHS = (
    *[TRANSCRIPTIONS] * 6,
    "/v1/audio/translations",
    "/v1/audio/transcriptions/render",
    "/openai/deployments/whisper-1/audio/transcriptions",
    "/v1/models",
    "/v1/models/demo",
    "/v1/models/../../etc/passwd",
    "/api/ps",
    "/api/ps/demo",
    "/metrics",
    "/health",
    "/ready",
    "/",
    "/docs",
    "/openapi.json",
    "/assets/",
    "*",
    "http://127.0.0.1/health",
    "//health//",
    "?",
    "",
)
ODD_TEXTS = (
    "%00",
    "%0A",
    "%0d%0aX: y",
    "%7F",
    "%ff",
    "%zz",
    "%",
    "..%2f",
    "/v1" * 50,
    "?a=%00&a",
    "#",
    ";x",
    " ",
    "\t",
)
ODD_BYTES = (
    b"\0",
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b"\x0b",
    b"\x1b[2J",
    b"\x7f",
    b"\x9b",
    b"\xff",
    b"\xe2\x80\xae",
    b":",
    b" ",
)
LENGTHS = ("0", "1", "00", "-1", "+5", "1, 1", "1, 2", "0x10", " 5 ", "9" * 30, str(1 << 40), "many", "")
ENCODINGS = (
    "chunked",
    "Chunked",
    "chunked, chunked",
    "gzip, chunked",
    "identity",
    "xchunked",
    " chunked",
    "chunked;q=1",
    "",
)
BOUNDARIES = (*[BOUNDARY] * 8, "x", "", '="')
HEADERS = (
    b"Connection: close",
    b"Connection: keep-alive, Upgrade",
    b"Connection: \0",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Origin: https://example.org",
    b"Origin: null\x7f",
    b"Access-Control-Request-Method: POST\x1b[31m",
    b"X-Forwarded-For: 203.0.113.5, \x9b31m",
    b"Cookie: " + b"x" * 4_000,
    b"Cookie: " + b"x" * HEAD_BYTES,
    b"Accept-Language: \xff\xfe",
    b"Content-Encoding: gzip",
    b"Host: other",
    b"Authorization: Basic Og==",
    b"Authorization: Bearer \xff",
    b"Api-Key: wrong",
    b"Range: bytes=0-",
    b"If-None-Match: *",
    b" folded: line",
    b"no colon",
    b": no name",
    b"Space : before",
    b"",
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is sent, in pieces, and what the client does then."""

    pieces: tuple[bytes, ...]
    end: End


def conversation(number: int, key: str) -> Conversation:
    """With `key` where the requests have a valid one; empty for none."""
    chance = random.Random(number)  # noqa: S311 - to be repeated, not to be secret
    wire = b"".join(request(chance, key) for _ in range(chance.choice([1, 1, 1, 2, 5])))
    for _ in range(chance.choice([0, 0, 0, 1, 1, 8])):
        wire = chance.choice(MUTATIONS)(wire, chance)
    if chance.random() < 0.1:
        wire = b"".join(b"1\r\n%c\r\n" % byte for byte in wire[:3_000])
    return Conversation(split(wire, chance), chance.choice(["read", "read", "half-close", "leave", "reset"]))


def request(chance: random.Random, key: str) -> bytes:
    """Mostly a good one."""
    path = chance.choice(PATHS) + (chance.choice(ODD_TEXTS) if chance.random() < 0.1 else "")
    version = chance.choice([*["HTTP/1.1"] * 20, "HTTP/1.0", "HTTP/2", "HTTP/0.9", "http/1.1", ""])
    body, framing = framed(chance.choice(BODIES), chance)
    usual = "POST" if "audio" in path else "GET"
    method = usual if chance.random() < 0.8 else chance.choice(METHODS)
    lines = [f"{method} {path} {version}".encode(), b"Host: localhost", *framing]
    lines += [f"Content-Type: multipart/form-data; boundary={chance.choice(BOUNDARIES)}".encode()]
    lines += [f"Authorization: Bearer {key}".encode()] if key and chance.random() < 0.7 else []
    lines += chance.sample(HEADERS, chance.choice([0, 0, 0, 1, 3]))
    return b"\r\n".join([*lines, b"", b""]) + body


def framed(body: bytes, chance: random.Random) -> tuple[bytes, list[bytes]]:
    """The body as it is sent, and the headers that say how long it is, or say something else."""
    length, chunked = b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"
    match chance.randrange(10):
        case 0 | 1 | 2 | 8:
            return body, [length]
        case 3 | 4 | 9:
            return chunks(body, chance), [chunked]
        case 5:
            return body, [f"Content-Length: {chance.choice(LENGTHS)}".encode()]
        case 6:
            return chunks(body, chance), [f"Transfer-Encoding: {chance.choice(ENCODINGS)}".encode()]
        case _:
            return chunks(body, chance), chance.choice([[length, chunked], [chunked, length], [length, length], []])


def chunks(body: bytes, chance: random.Random) -> bytes:
    """With sizes, extensions and trailers as they come, and now and then without an end."""
    size = max(chance.choice([7, 64, 1_000, 70_000]), len(body) // 2_000)
    starts = range(0, len(body), size)
    extensions = [chance.choice([b"", b"", b";a=b", b';a="\0"', b" "]) for _ in starts]
    if extensions and chance.random() < 0.1:
        extensions[-1] = b";" + b"x" * 20_000
    pieces = [body[start : start + size] for start in starts]
    sent = [b"%x%s\r\n%s\r\n" % (len(piece), extra, piece) for piece, extra in zip(pieces, extensions, strict=True)]
    return b"".join(sent) + chance.choice(
        [b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 3_000 + b"\r\n", b""]
    )


def split(wire: bytes, chance: random.Random) -> tuple[bytes, ...]:
    """In up to eight pieces."""
    cuts = sorted(chance.randint(0, len(wire)) for _ in range(chance.choice([0, 0, 1, 3, 7])))
    return tuple(wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True) if start < end)


def truncate(wire: bytes, chance: random.Random) -> bytes:
    return wire[: chance.randint(0, len(wire))]


def insert(wire: bytes, chance: random.Random) -> bytes:
    place = _place(wire, chance)
    return wire[:place] + chance.choice(ODD_BYTES) + wire[place:]


def flip(wire: bytes, chance: random.Random) -> bytes:
    place = _place(wire, chance)
    return wire[:place] + bytes([chance.randrange(256)]) + wire[place + 1 :]


def cut_out(wire: bytes, chance: random.Random) -> bytes:
    place = _place(wire, chance)
    return wire[:place] + wire[place + chance.choice([1, 2, 10, 100]) :]


def repeat(wire: bytes, chance: random.Random) -> bytes:
    place = _place(wire, chance)
    return wire[:place] + wire[place : place + 50] * chance.choice([2, 20]) + wire[place + 50 :]


def _place(wire: bytes, chance: random.Random) -> int:
    """Mostly in the first head."""
    return chance.randint(0, min(len(wire), chance.choice([100, 400, 1 << 20])))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate,
    insert,
    insert,
    flip,
    flip,
    cut_out,
    repeat,
)
