"""Transcripts that nobody would post: whatever they hold, they are rendered, or refused in the envelope."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from server.api.app import create_app
from server.options import RESPONSE_FORMATS, SUBTITLE_FORMATS
from server.settings import Settings
from tests.support.fakes import make_media
from tests.support.registries import registry_of

RENDER = "/v1/audio/transcriptions/render"
WORD = ("word", "start", "end", "probability")
SEGMENT = ("id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "words")
SHAPING = ("max_line_width", "max_line_count", "min_cue_seconds", "max_cue_seconds")
WHOLE = ("segments", "words", "language", "duration", "task", "response_format", "response_dialect", *SHAPING)

texts = st.text(max_size=12) | st.text(" ab.,-->\n(今「\u200b\u0301\u2028<&", max_size=12)
times = st.floats(0, 20) | st.integers(0, 20)
anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | texts | st.sampled_from([10**400, -0.0, 5e-324]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*WHOLE, *SEGMENT)), inner, max_size=4)
    ),
    max_leaves=6,
)


def spans(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects whose start and end are in order, mostly."""
    both = st.tuples(times, times).map(sorted)
    made = st.fixed_dictionaries({"both": both, **required}, optional=optional)
    return made.map(lambda each: {"start": each["both"][0], "end": each["both"][1], **_without(each, "both")})


def _without(each: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in each.items() if key != name}


words = st.lists(spans({"word": texts}, {"probability": st.floats(0, 1)}), max_size=5)
segments = st.lists(
    spans({"text": texts}, {"words": words | st.none(), "tokens": st.lists(st.integers(0, 60_000), max_size=2)}),
    max_size=4,
).map(lambda each: sorted(each, key=lambda segment: float(segment["start"])))
fitting = st.fixed_dictionaries(
    {"segments": segments, "response_format": st.sampled_from(RESPONSE_FORMATS)},
    optional={
        "words": words,
        "language": st.sampled_from(["en", "english", "zh", "xx", ""]),
        "duration": times,
        "task": st.sampled_from(["transcribe", "translate"]),
        "response_dialect": st.sampled_from(["openai", "nested"]),
        "max_line_width": st.integers(1, 40),
        "max_line_count": st.integers(1, 5),
        "min_cue_seconds": st.floats(0, 2),
        "max_cue_seconds": st.floats(0, 30),
    },
)
proper = fitting.map(
    lambda body: {
        name: value
        for name, value in (body | {"language": "en", "min_cue_seconds": 0, "max_cue_seconds": 5}).items()
        if name not in SHAPING or body["response_format"] in SUBTITLE_FORMATS
    }
)
odd = st.tuples(fitting, st.dictionaries(st.sampled_from(WHOLE), anything, max_size=3)).map(
    lambda two: two[0] | two[1]
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), registry_of(), make_media())) as client:  # raises what would be a 500
        yield client


def check(client: TestClient, content: bytes) -> int:
    answer = client.post(RENDER, content=content, headers={"content-type": "application/json"})
    if answer.status_code != 200:
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert len(error["message"].encode()) < 1_000
    return answer.status_code


@given(proper)
@settings(max_examples=300)
def test_a_transcript_in_order_is_rendered(client: TestClient, body: dict[str, Any]) -> None:
    assert check(client, json.dumps(body).encode()) == 200


@given(odd | anything)
@example({"segments": [{"start": 0, "end": 1, "text": "a", "id": 10**400}], "response_format": "srt"})
@example({"segments": [{"start": 10**400, "end": 1, "text": "a"}], "response_format": "srt"})
@example({"segments": [], "response_format": "srt", "max_line_width": 10**400})
@settings(max_examples=300)
def test_any_json_is_rendered_or_refused(client: TestClient, body: object) -> None:
    check(client, json.dumps(body).encode())


@given(odd, st.binary(max_size=8), st.integers(0, 400))
@settings(max_examples=150)
def test_bytes_that_may_be_no_json_are_rendered_or_refused(
    client: TestClient, body: object, more: bytes, at: int
) -> None:
    written = json.dumps(body).encode()
    check(client, written[:at] + more + written[at:])
