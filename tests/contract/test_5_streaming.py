"""Contract, section 5: what a stream is made of. When its events leave, and what ends it, is in tests/api."""

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from server.options import RESPONSE_FORMATS
from tests.contract.asking import BOTH, SILENCE, SPEECH, TWO_PHRASES, ask
from tests.contract.schemas import fits

MODELS = ("whisper-1", "gpt-4o-transcribe", "gpt-transcribe")
OURS = {"transcript.text.delta": "TextDelta", "transcript.text.done": "TextDone"}
STREAM = {"stream": "true", "language": "en"}


def events_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The events of a stream, which must be in OpenAI's live form, comments aside."""
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("\r\n\r\n")
    blocks = [block for block in answer.text.removesuffix("\r\n\r\n").split("\r\n\r\n") if block[0] != ":"]
    assert blocks.pop() == "data: [DONE]"
    assert all(block.startswith("data: {") and "\n" not in block for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def stream(client: TestClient, fields: dict[str, str | Sequence[str]], **how: str) -> list[dict[str, Any]]:
    return events_of(ask(client, {**STREAM, **fields}, **how))


@pytest.mark.parametrize("audio", [TWO_PHRASES, SILENCE])
@pytest.mark.parametrize("include", [[], ["logprobs"]], ids=["", "logprobs"])
@pytest.mark.parametrize("model", MODELS)
def test_every_event_fits_its_schema(client: TestClient, model: str, include: list[str], audio: str) -> None:
    events = stream(client, {"model": model, "include[]": include}, audio=audio)
    for event in events:
        fits(event, "CreateTranscriptionResponseStreamEvent", OURS[event["type"]])
    assert all(("logprobs" in event) == bool(include) for event in events)


def test_events_of_ours_fit_our_schemas_and_no_other_comes_with_them(client: TestClient) -> None:
    events = stream(client, {"stream_events[]": ["segments", "progress"], **BOTH}, audio=TWO_PHRASES)
    kinds = OURS | {"sotto.segment": "SegmentEvent", "sotto.progress": "ProgressEvent"}
    assert {event["type"] for event in events} == set(kinds)
    for event in events:
        fits(event, None, kinds[event["type"]])


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
@pytest.mark.parametrize("route", ["transcriptions", "translations"])
def test_deltas_come_before_one_done_and_are_its_text(client: TestClient, route: str, response_format: str) -> None:
    *deltas, done = stream(client, {"response_format": response_format}, audio=TWO_PHRASES, route=route)
    assert [event["type"] for event in deltas] == ["transcript.text.delta"] * 2
    assert done["type"] == "transcript.text.done"
    first, second = (event["delta"] for event in deltas)
    assert first[0] != " " == second[0]
    assert first + second == done["text"]


def test_usage_of_a_stream_is_tokens_or_nothing(client: TestClient) -> None:
    assert "usage" not in stream(client, {"model": "whisper-1"})[-1]
    plain = ask(client, {"model": "gpt-4o-transcribe", "language": "en"}).json()
    assert stream(client, {"model": "gpt-4o-transcribe"})[-1]["usage"] == plain["usage"]


def test_languages_are_in_the_last_event(client: TestClient) -> None:
    assert stream(client, {"model": "gpt-transcribe"})[-1]["languages"] == [{"code": "en"}]


def test_a_stream_is_not_buffered_by_proxies(client: TestClient) -> None:
    answer = ask(client, STREAM)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("value", ["false", "False", "0", ""])
def test_a_stream_is_sent_only_if_requested(client: TestClient, value: str) -> None:
    assert ask(client, {"stream": value}, audio=SPEECH).headers["content-type"] == "application/json"


def test_errors_before_the_first_byte_are_plain_answers(client: TestClient) -> None:
    for fields, audio, status in (({}, b"no sound", 400), ({"model": "none"}, SPEECH, 404)):
        answer = ask(client, {**STREAM, **fields}, audio=audio)
        assert answer.status_code == status
        fits(answer.json(), "ErrorResponse", "ErrorResponse")
