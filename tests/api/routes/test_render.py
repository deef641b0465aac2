"""POST /v1/audio/transcriptions/render: what a transcription answers, made again of its `verbose_json`."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.gate.request_body import RequestBody
from server.api.gate.upload_pace import Pace
from server.api.json_body import JsonBodies
from server.api.posted_transcript import MAX_TIME_S, _pairs
from server.api.routes.render import Renderer
from server.errors import RateLimited, Unavailable
from server.quota import Quota
from server.settings import Settings
from tests.contract.schemas import fits
from tests.support.fakes import DEADLINE_S, eventually, make_media, wait_until
from tests.support.registries import registry_of
from tests.support.serving import REQUEST_S, Running, serving
from tests.support.wire import Connection

RENDER = "/v1/audio/transcriptions/render"
VERBOSE: dict[str, Any] = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
SHAPINGS: list[dict[str, float]] = [
    {"max_line_width": 42},
    {"max_line_width": 12, "max_line_count": 3, "min_cue_seconds": 0, "max_cue_seconds": 2.5},
    {"max_line_width": 80, "max_line_count": 1, "min_cue_seconds": 3, "max_cue_seconds": 20},
]
STEADY = ("en_00.wav", "de_00.wav", "es_00.wav", "long_pause.flac")  # at temperature 0: the same each time
SEGMENT = {"start": 0.0, "end": 2.5, "text": " Hello, world."}
WORD = {"word": "Hello", "start": 0.0, "end": 1.0}
SRT = "1\n00:00:00,000 --> 00:00:02,500\nHello, world.\n\n\n"
KEY = "render-key-0123456789abcdef"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A server without a model: none is needed."""
    with TestClient(create_app(Settings(), registry_of(), make_media())) as client:
        yield client


def posted(server: Running, body: object) -> httpx2.Response:
    return httpx2.post(f"{server.base_url}{RENDER}", json=body, timeout=REQUEST_S, trust_env=False)


def refused(answer: httpx2.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


# As the transcription itself.


@pytest.mark.parametrize("name", STEADY)
def test_subtitles_of_a_recording_are_those_of_its_transcription(server: Running, name: str) -> None:
    verbose = server.transcribe(name, VERBOSE).json()
    plain = server.transcribe(name, VERBOSE | {"timestamp_granularities[]": "segment"}).json()
    for response_format in ("srt", "vtt"):
        expected = server.transcribe(name, {"response_format": response_format})
        answer = posted(server, {**plain, "response_format": response_format})
        assert answer.content == expected.content
        assert answer.headers["content-type"] == expected.headers["content-type"]
    for shaping in SHAPINGS:
        fields = {key: str(value) for key, value in shaping.items()}
        expected = server.transcribe(name, {"response_format": "srt", **fields})
        assert posted(server, {**verbose, "response_format": "srt", **shaping}).content == expected.content


@pytest.mark.parametrize("nested", [False, True])
def test_words_may_be_inside_segments_or_beside_them(server: Running, nested: bool) -> None:
    fields = VERBOSE | {"response_dialect": "nested" if nested else "openai"}
    verbose = server.transcribe("two_minutes.mp3", fields).json()
    assert ("words" in verbose) != nested
    shaping = {"response_format": "vtt", "max_line_width": 30}
    expected = server.transcribe("two_minutes.mp3", {"response_format": "vtt", "max_line_width": "30"})
    assert posted(server, {**verbose, **shaping}).content == expected.content


@pytest.mark.parametrize("dialect", ["openai", "nested"])
def test_verbose_json_comes_back_as_it_went(server: Running, dialect: str) -> None:
    verbose = server.transcribe("de_00.wav", VERBOSE | {"response_dialect": dialect})
    body = {**verbose.json(), "response_format": "verbose_json", "response_dialect": dialect}
    assert posted(server, body).content == verbose.content


@pytest.mark.parametrize("response_format", ["json", "text"])
def test_text_and_json_are_those_of_the_transcription(server: Running, response_format: str) -> None:
    expected = server.transcribe("en_00.wav", {"response_format": response_format})
    verbose = server.transcribe("en_00.wav", VERBOSE).json()
    assert posted(server, {**verbose, "response_format": response_format}).content == expected.content


def test_the_log_has_a_line_of_it_without_its_text(server: Running) -> None:
    answer = posted(server, {"segments": [{**SEGMENT, "text": " Nonesuch"}], "response_format": "srt"})
    line = server.wait_for_line(rf".* POST {RENDER} .*{answer.headers['x-request-id']}.*")[0]
    assert " 200 " in line
    assert "Nonesuch" not in server.log
    assert f'route="{RENDER}"' in server.get("/metrics").text


@pytest.mark.parametrize(
    ("task", "response_format", "schema"),
    [
        ("transcribe", "json", "JsonTranscription"),
        ("translate", "json", "JsonTranslation"),
        ("transcribe", "verbose_json", "VerboseTranscription"),
        ("translate", "verbose_json", "VerboseTranslation"),
    ],
)
def test_json_fits_our_schemas(client: TestClient, task: str, response_format: str, schema: str) -> None:
    body = {"segments": [{**SEGMENT, "words": [WORD]}], "language": "en", "task": task}
    fits(client.post(RENDER, json={**body, "response_format": response_format}).json(), None, schema)


# What may be posted.


def test_segments_and_a_format_are_enough(client: TestClient) -> None:
    answer = client.post(RENDER, json={"segments": [SEGMENT], "response_format": "srt"})
    assert answer.text == SRT
    assert client.post(RENDER, json={"segments": [], "response_format": "srt"}).text == "\n"


@pytest.mark.parametrize("path", ["/audio/transcriptions/render", f"/openai{RENDER}", f"{RENDER}/"])
def test_it_answers_at_the_addresses_that_transcriptions_have(client: TestClient, path: str) -> None:
    assert client.post(path, json={"segments": [SEGMENT], "response_format": "srt"}).text == SRT


def test_null_is_as_absent_and_other_members_are_ignored(client: TestClient) -> None:
    absent = dict.fromkeys(("words", "language", "duration", "task", "max_line_width", "min_cue_seconds"))
    body = {
        "segments": [{**SEGMENT, "words": None, "speaker": "A"}],
        "response_format": "srt",
        **absent,
        "usage": 1,
    }
    assert client.post(RENDER, json=body).text == SRT


def test_edited_text_whose_words_are_gone_is_spread_over_its_time(client: TestClient) -> None:
    segment = {"start": 0.0, "end": 4.0, "text": " Quite other words", "words": [WORD]}
    shaping = {"max_line_width": 5, "max_line_count": 1, "min_cue_seconds": 0}
    answer = client.post(RENDER, json={"segments": [segment], "response_format": "srt", **shaping})
    assert re.findall(r"(\S+) --> (\S+)\n(.*)", answer.text) == [
        ("00:00:00,000", "00:00:01,333", "Quite"),
        ("00:00:01,333", "00:00:02,667", "other"),
        ("00:00:02,667", "00:00:04,000", "words"),
    ]


def body(**more: object) -> dict[str, object]:
    return {"segments": [SEGMENT], "response_format": "srt", **more}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"segments": None}, "segments"),
        ({"segments": [{"start": 0, "end": 1}]}, "segments[0].text"),
        ({"segments": [SEGMENT, {**SEGMENT, "start": "0"}]}, "segments[1].start"),
        ({"segments": [{**SEGMENT, "start": -0.1}]}, "segments[0].start"),
        ({"segments": [{**SEGMENT, "end": MAX_TIME_S + 1}]}, "segments[0].end"),
        ({"segments": [{**SEGMENT, "start": 3}]}, "segments[0].end"),
        ({"segments": [{**SEGMENT, "start": 1}, SEGMENT]}, "segments[1].start"),
        ({"segments": [{**SEGMENT, "words": [WORD, {**WORD, "word": 1}]}]}, "segments[0].words[1].word"),
        ({"segments": [{**SEGMENT, "words": [{**WORD, "start": 1.5}]}]}, "segments[0].words[0].end"),
        ({"segments": [{**SEGMENT, "tokens": ["a"]}]}, "segments[0].tokens[0]"),
        ({"segments": [{**SEGMENT, "id": 1 << 70}]}, "segments[0].id"),
        ({"words": [{**WORD, "start": 1.5}]}, "words[0].end"),
        ({"words": [{**WORD, "probability": 1.5}]}, "words[0].probability"),
        ({"duration": -1}, "duration"),
        ({"language": "Klingon"}, "language"),
        ({"response_format": "verbose_json"}, "language"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": None}, "response_format"),
        ({"task": "sing"}, "task"),
        ({"max_line_width": 0}, "max_line_width"),
        ({"max_line_width": 20.5}, "max_line_width"),
        ({"max_line_width": True}, "max_line_width"),
        ({"max_line_count": 6}, "max_line_count"),
        ({"min_cue_seconds": 8, "max_cue_seconds": 7}, "min_cue_seconds"),
        ({"max_cue_seconds": 7, "response_format": "text"}, "max_cue_seconds"),
    ],
)
def test_an_invalid_member_is_named(client: TestClient, given: dict[str, object], param: str) -> None:
    error = refused(client.post(RENDER, json=body(**given)))
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param.rpartition(".")[2].partition("[")[0] in error["message"] or param == "language"


@pytest.mark.parametrize("words", [[{"word": "zz", "start": 0, "end": 0}], None], ids=["other words", "no words"])
def test_the_text_counts_where_words_do_not_match_it(client: TestClient, words: object) -> None:
    segment = {"start": 0.0, "end": 2.5, "text": "a " * 20_000} | ({"words": words} if words else {})
    shape = {"response_format": "srt", "max_line_width": 200, "max_line_count": 5}
    error = refused(client.post(RENDER, json={"segments": [segment], **shape}))
    assert error["param"] == "segments"


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 40))
def test_the_pairs_of_words_that_share_a_cue_are_counted(lengths: list[int], columns: int) -> None:
    widths = [max(length, 1) for length in lengths]
    ends = range(1, len(widths) + 1)
    fitting = sum(end - start == 1 or sum(widths[start:end]) <= columns for end in ends for start in range(end))
    assert _pairs(lengths, columns) == fitting


@pytest.mark.anyio
async def test_a_client_with_many_transcripts_leaves_a_thread_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    go, rendering = threading.Event(), list[bytes]()

    def rendered(_: Renderer, body: bytes) -> tuple[str, bytes]:
        rendering.append(body)
        assert go.wait(DEADLINE_S)
        return "text/plain", body

    def request(client: str) -> Request:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": client.encode()}

        headers = [(b"content-type", b"application/json"), (b"content-length", b"1")]
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "headers": headers,
            "state": {"key_name": client},
        }
        counted = RequestBody(scope, receive)
        scope["state"]["body"] = counted
        return Request(scope, counted.receive)

    monkeypatch.setattr(Renderer, "_rendered", rendered)
    renderer = Renderer(Settings())
    tasks = [asyncio.create_task(renderer.render(request(client))) for client in ("a", "a", "a", "b")]
    await eventually(lambda: sorted(rendering) == [b"a", b"b"])
    go.set()
    assert [body for _, body in await asyncio.gather(*tasks)] == [b"a", b"a", b"a", b"b"]


def test_more_text_than_is_shaped_at_once_is_refused(client: TestClient) -> None:
    long = {"segments": [{**SEGMENT, "text": " a" * 40_000}], "response_format": "srt"}
    error = refused(client.post(RENDER, json=long | {"max_line_width": 200, "max_line_count": 5}))
    assert (error["param"], "cues of 1000 columns" in error["message"]) == ("segments", True)
    assert client.post(RENDER, json=long).status_code == 200


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"1", b"[" * 100_000, b'{"segments": NaN}', b"\xff", b'{"response_format": "\\ud800"}'],
)
def test_invalid_json_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post(RENDER, content=content, headers={"content-type": "application/json; charset=utf-8"})
    assert refused(answer)["code"] == "invalid_value"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_times_are_finite(client: TestClient, number: str) -> None:
    content = json.dumps(body()).replace("2.5", number)
    answer = client.post(RENDER, content=content, headers={"content-type": "application/json"})
    assert refused(answer)["param"] == "segments[0].end"


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data; boundary=x"])
def test_a_body_with_another_content_type_is_refused(client: TestClient, kind: str) -> None:
    answer = client.post(RENDER, content=json.dumps(body()), headers={"content-type": kind})
    assert "application/json" in refused(answer)["message"]


def test_other_methods_are_not_allowed(client: TestClient) -> None:
    answer = client.get(RENDER)
    refused(answer, 405)
    assert answer.headers["allow"] == "POST"


# Keys and limits.


def test_a_key_is_needed_where_keys_are_set() -> None:
    settings = Settings.model_validate({"api_keys": KEY})
    with TestClient(create_app(settings, registry_of(), make_media())) as client:
        refused(client.post(RENDER, json=body()), 401)
        assert client.post(RENDER, json=body(), headers={"authorization": f"Bearer {KEY}"}).text == SRT


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused(chunked: bool) -> None:
    settings = Settings.model_validate({"max_render_mb": 1})
    content = json.dumps(body()).encode() + b" " * (1 << 20)
    headers = {"content-type": "application/json"}
    with TestClient(create_app(settings, registry_of(), make_media())) as client:
        answer = client.post(RENDER, content=iter([content]) if chunked else content, headers=headers)
        assert "SOTTO_MAX_RENDER_MB" in refused(answer, 413)["message"]
        assert client.post(RENDER, content=content[: 1 << 20], headers=headers).text == SRT


def test_a_declared_body_above_the_limit_is_refused_unread(server: Running) -> None:
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Type": "application/json", "Content-Length": str(17 << 20)}, path=RENDER)
        assert connection.answer().status == 413


def test_a_server_that_takes_no_more_transcriptions_still_renders() -> None:
    with serving(max_requests=1) as server, Connection(server.base_url) as other:
        other.send_head({"Content-Length": "100000"})
        other.send(b"-")
        wait_until(lambda: server.transcribe("en_00.wav").status_code == 503)
        assert posted(server, body()).text == SRT


def test_bodies_are_held_up_to_their_limit_all_together() -> None:
    bodies = JsonBodies(100, Quota.halved(150), Pace(0, 1.0), setting="SOTTO_MAX_RENDER_MB")
    bodies.hold("a", 75)
    with pytest.raises(RateLimited, match=r"bytes of transcripts to render\. Limit: 75"):
        bodies.hold("a", 1)
    bodies.hold("b", 74)
    with pytest.raises(Unavailable) as refusal:
        bodies.hold("b", 1)
    assert refusal.value.retry_after_s == 2


def test_a_body_that_comes_too_slowly_times_out() -> None:
    with serving(upload_timeout_seconds=0.1) as server, Connection(server.base_url) as connection:
        connection.send_head({"Content-Type": "application/json", "Content-Length": "100"}, path=RENDER)
        connection.send(b"{")
        assert connection.answer().status == 408
