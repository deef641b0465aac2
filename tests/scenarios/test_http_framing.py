"""How bodies come over the wire, beside what `test_transcriptions` has: all of it legal, most of it seen."""

from collections.abc import Callable, Sequence

import pytest

from tests.support.bad_inputs import SPEECH_TEXT, wav
from tests.support.serving import TRANSCRIPTIONS, Running
from tests.support.wire import Connection, content_type, field, file, form, part

AUDIO = wav()
MODEL = field("model", "whisper-1")
BODY = form(MODEL, file(AUDIO))
H2C = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
ABOVE_CURL_S_PATIENCE = wav(bytes(1 << 21))  # curl asks before it sends more than 1 MiB


def text_of(server: Running, body: bytes, **headers: str) -> str:
    with Connection(server.base_url) as connection:
        answer = connection.post(body, headers)
    assert answer.status == 200, answer.body
    return str(answer.json()["text"])


def lower_case(parts: bytes) -> bytes:
    return parts.replace(b"Content-Disposition", b"content-disposition").replace(b"Content-Type", b"content-type")


# Parts.


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lower_case(form(MODEL, file(AUDIO))), id="lower-case headers"),
        pytest.param(
            form(
                part("name=model", "whisper-1", "Content-Length: 9", "Content-Type: text/plain; charset=utf-8"),
                part("name=file; filename=a.wav; filename*=UTF-8''a.wav", AUDIO, f"Content-Length: {len(AUDIO)}"),
            ),
            id="lengths inside",
        ),
        pytest.param(b"\r\n" + BODY, id="empty line first"),
        pytest.param(BODY.removesuffix(b"\r\n"), id="no last line end"),
        pytest.param(BODY + b"\r\n\r\n", id="empty lines last"),
        pytest.param(
            form(file(AUDIO, 'name="file"; filename="a.wav"', "Content-Transfer-Encoding: binary"), MODEL),
            id="transfer encoding",
        ),
        pytest.param(
            form(MODEL, part('name="file"; filename="a.wav"', AUDIO, "X-Odd:  header ")), id="unknown header"
        ),
        pytest.param(form(part('name="model"; filename*=', "whisper-1"), file(AUDIO)), id="empty extended name"),
        pytest.param(
            form(MODEL, part("name=\"prompt; filename*=utf-8''a\"", "text"), file(AUDIO)),
            id="extended name in quotes",
        ),
    ],
)
def test_parts_are_read_however_they_are_written(server: Running, body: bytes) -> None:
    assert text_of(server, body) == SPEECH_TEXT


@pytest.mark.parametrize(
    "given",
    [
        'multipart/form-data; boundary="{}"',
        "Multipart/Form-Data;boundary={}",
        "multipart/form-data ; charset=UTF-8 ; boundary={}",
        'multipart/form-data; BOUNDARY="{}"; charset="utf-8"',
    ],
)
@pytest.mark.parametrize("boundary", ["----WebKitFormBoundaryABC", "_=-0123456789-=_", "openai-aB.c", "x" * 70])
def test_a_boundary_is_found(server: Running, given: str, boundary: str) -> None:
    quoted = given if "=" not in boundary else given.replace("={}", '="{}"')
    body = form(MODEL, file(AUDIO), boundary=boundary)
    assert text_of(server, body, **{"Content-Type": quoted.format(boundary)}) == SPEECH_TEXT


# Chunks.


def all_at_once(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def in_small_pieces(body: bytes) -> bytes:
    pieces = (body[start : start + 7] for start in range(0, len(body), 7))
    return b"".join(b"%X\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


def with_extensions_and_trailers(body: bytes) -> bytes:
    return b"%08x;name=value\r\n%s\r\n0\r\nX-Checksum: 1\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("chunked", [all_at_once, in_small_pieces, with_extensions_and_trailers])
@pytest.mark.parametrize("offer", [{}, H2C], ids=["HTTP/1.1", "h2c"])
def test_chunks_are_joined(server: Running, chunked: Callable[[bytes], bytes], offer: dict[str, str]) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked", **offer})
        connection.send(chunked(BODY))
        assert connection.answer().json()["text"] == SPEECH_TEXT


# Asking first.


def test_the_body_is_requested_once_it_is_needed(server: Running) -> None:
    body = form(file(ABOVE_CURL_S_PATIENCE), MODEL)
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body)), "Expect": "100-continue", **H2C})
        assert connection.socket.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        assert connection.answer().status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/nowhere", {}, 404),
        ("/v1/models", {}, 405),
        (TRANSCRIPTIONS, {"Content-Type": "application/json"}, 400),
        (TRANSCRIPTIONS, {"Content-Length": str(1 << 50)}, 413),
    ],
)
def test_an_unwanted_body_is_never_requested(
    server: Running, path: str, headers: dict[str, str], status: int
) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": "2000000", "Expect": "100-continue", **headers}, path=path)
        received = b""
        while more := connection.socket.recv(1 << 16):  # closed at once, so that the body can't pass for a request
            received += more
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert received.count(b"HTTP/1.1 ") == 1


# One connection.


@pytest.mark.parametrize(
    "bodies", [(form(MODEL), BODY), (form(field("model", "none"), file(AUDIO)), BODY), (BODY, BODY)]
)
def test_a_connection_serves_on_after_a_refusal(server: Running, bodies: Sequence[bytes]) -> None:
    with Connection(server.base_url) as connection:
        *_, last = [connection.post(body, {"Content-Type": content_type()}) for body in bodies]
    assert last.json()["text"] == SPEECH_TEXT
