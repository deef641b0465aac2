"""A command's way to a server: waits where there is no room, puts words together again, tells what is wrong."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from server.commands.client import ATTEMPTS, Client, _words
from server.errors import InvalidRequest, RemoteError
from server.formats.render import bare_word
from server.options import DecodingOptions, TranscriptionOptions, UploadFd
from server.transcript import Transcript
from tests.support.bad_inputs import DATA

SEGMENT = {"id": 0, "seek": 0, "start": 0.0, "end": 1.0, "text": " Hi, you.", "tokens": [1], "temperature": 0.0}
SEGMENT |= {"avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.0}
EVENTS: list[dict[str, Any]] = [
    {"type": "sotto.progress", "done_s": 0.0, "total_hint_s": 2.5, "queue_position": 0},
    {"type": "transcript.text.delta", "delta": "Hi, you."},
    {"type": "sotto.segment", **SEGMENT},
    {"type": "sotto.progress", "done_s": 2.444, "queue_position": 0},
    {"type": "transcript.text.done", "text": "Hi, you.", "languages": [{"code": "de"}]},
]


def stream(*events: dict[str, Any]) -> bytes:
    return b": still working\r\n\r\n" + b"".join(f"data: {json.dumps(each)}\r\n\r\n".encode() for each in events)


class Answers:
    """A server that gives the answers it was told to, the last again and again, and keeps what it was sent."""

    def __init__(self, *answers: tuple[int, bytes, dict[str, str]]) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        left = list(answers)
        answered = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answered.headers.append({name.lower(): value for name, value in self.headers.items()})
                answered.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self._answer()

            def do_GET(self) -> None:
                answered.paths.append(self.path)
                self._answer()

            def _answer(self) -> None:
                status, body, headers = left.pop(0) if len(left) > 1 else left[0]
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Answers"]:
        thread = threading.Thread(target=self._server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def asked(answers: Answers, options: TranscriptionOptions | None = None) -> tuple[Transcript, list[float]]:
    """What comes of asking, and the waits before the server had room."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def ask() -> Transcript:
        recording = DATA / "en_00.wav"
        with recording.open("rb") as file:
            async with Client(answers.url, "secret", sleep=sleep) as client:
                source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, recording.name)
                asked = client.transcribe(source, options or TranscriptionOptions())
                try:
                    return await asked.result()
                finally:
                    await asked.close()

    with answers.serving():
        return asyncio.run(ask()), waits


def test_a_stream_becomes_a_transcript() -> None:
    transcript, waits = asked(Answers((200, stream(*EVENTS), {})))
    assert (transcript.text, transcript.language, transcript.duration_s) == ("Hi, you.", "de", 2.444)
    assert transcript.segments[0].tokens == (1,)
    assert waits == []


def test_a_full_server_is_asked_again_when_it_says_with_the_whole_file() -> None:
    full = (503, b"{}", {"retry-after": "7"})
    answers = Answers(full, (429, b"{}", {}), (503, b"", {"retry-after": "9999"}), (200, stream(*EVENTS), {}))
    _, waits = asked(answers)
    assert waits == [7, 2, 60]
    assert len({len(body) for body in answers.bodies}) == 1
    assert (DATA / "en_00.wav").read_bytes() in answers.bodies[-1]


def test_a_server_that_is_always_full_is_given_up() -> None:
    answers = Answers((503, b'{"error": {"message": "no room"}}', {"retry-after": "1"}))
    with pytest.raises(RemoteError, match="no room"):
        asked(answers)
    assert len(answers.bodies) == ATTEMPTS


def test_a_request_that_must_not_be_retried_is_not() -> None:
    answers = Answers((503, b'{"error": {"message": "the model is broken"}}', {"x-should-retry": "false"}))
    with pytest.raises(RemoteError, match="broken"):
        asked(answers)
    assert len(answers.bodies) == 1


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"error": {"message": "no audio"}}', "no audio"),
        (404, b"<html>", "answers 404"),
        (200, stream({"error": {"message": "shutting down"}}), "shutting down"),
        (200, stream(*EVENTS[:2]), "is this a Sotto server"),
        (200, stream(EVENTS[1], EVENTS[4]), "is this a Sotto server"),  # it has no segments to tell
        (200, b'{"text": "not streamed"}', "is this a Sotto server"),
    ],
)
def test_errors_of_the_server_are_raised(status: int, body: bytes, message: str) -> None:
    with pytest.raises(RemoteError, match=message):
        asked(Answers((status, body, {})))


@pytest.mark.parametrize(
    ("status", "body", "demo"),
    [
        (200, b'{"id": "own", "demo": true}', True),
        (200, b'{"id": "own"}', False),
        (200, b'["of another kind"]', False),
        (200, b"<html>", False),
        (404, b'{"error": {"message": "no such model"}}', False),
    ],
)
def test_a_model_is_a_demo_where_the_server_says_so(status: int, body: bytes, demo: bool) -> None:
    answers = Answers((status, body, {}))

    async def ask() -> list[bool]:
        async with Client(answers.url) as client:
            return [await client.is_demo(name) for name in ("", "org/own")]

    with answers.serving():
        assert asyncio.run(ask()) == [demo, demo]
    assert answers.paths == ["/v1/models/whisper-1", "/v1/models/org%2Fown"]


def test_options_and_key_are_sent() -> None:
    answers = Answers((200, stream(*EVENTS), {}))
    decoding = DecodingOptions(task="translate", language="de", prompt="Sotto", word_timestamps=True)
    asked(answers, TranscriptionOptions(model="small", decoding=decoding))
    assert answers.headers[0]["authorization"] == "Bearer secret"
    for name, value in [("language", "de"), ("prompt", "Sotto"), ("model", "small"), ("stream", "true")]:
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in answers.bodies[0]


@pytest.mark.parametrize("url", ["box:8000", "ftp://box", "http://", "box"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="address"):
        Client(url)


@pytest.mark.parametrize(
    "words",
    [
        [" Hello,", " you", " there!"],
        [" “Yes,”", " he", " said", " -", " ¿qué?", " -5", " o'clock..."],
        ["今", "天", "，", "天", "气"],
        [" the", " the", " the."],
    ],
)
def test_words_get_their_spaces_and_punctuation_back(words: list[str]) -> None:
    timed = [{"word": bare_word(word), "start": 0.0, "end": 1.0, "probability": 1.0} for word in words]
    assert [word.word for word in _words("".join(words), timed)] == words
