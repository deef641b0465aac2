"""Contract, section 3: what an answer is made of. Bodies byte for byte are in tests/formats/test_render.py."""

import json
import math
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from server.options import RESPONSE_FORMATS
from tests.contract.asking import BOTH, GERMAN, SILENCE, SPEECH, TWO_PHRASES, VERBOSE, ask
from tests.contract.schemas import OPENAI, OURS, THEIRS, fits
from tests.support.bad_inputs import SPEECH_TEXT

GRANULARITIES: tuple[list[str], ...] = ([], ["segment"], ["word"], ["word", "segment"])
ROUTES = ("transcriptions", "translations")


@pytest.mark.parametrize("audio", [SPEECH, TWO_PHRASES, SILENCE])
@pytest.mark.parametrize("granularities", GRANULARITIES, ids=lambda names: "+".join(names) or "none")
@pytest.mark.parametrize("route", ROUTES)
def test_verbose_json_fits_its_schema(client: TestClient, route: str, granularities: list[str], audio: str) -> None:
    fields = {
        **VERBOSE,
        "timestamp_granularities[]": granularities,
        "language": "en",
    }
    answer = ask(client, fields, audio=audio, route=route).json()
    fits(answer, THEIRS[route, "verbose_json"], OURS[route, "verbose_json"])


@pytest.mark.parametrize("choice", [{"nested_words": "true"}, {"response_dialect": "nested"}], ids=str)
def test_other_shapes_of_verbose_json_fit_its_schema_too(client: TestClient, choice: dict[str, str]) -> None:
    answer = ask(client, {**VERBOSE, **BOTH, **choice}).json()
    fits(answer, THEIRS["transcriptions", "verbose_json"], OURS["transcriptions", "verbose_json"])
    assert "words" in answer["segments"][0]


@pytest.mark.parametrize("route", ROUTES)
def test_json_with_logprobs_fits_its_schema(client: TestClient, route: str) -> None:
    answer = ask(client, {"include[]": "logprobs"}, route=route).json()
    fits(answer, THEIRS[route, "json"], OURS[route, "json"])
    assert b"".join(bytes(each["bytes"]) for each in answer["logprobs"]).decode().strip() == answer["text"]


@pytest.mark.parametrize("audio", [SPEECH, SILENCE])
@pytest.mark.parametrize("model", ["whisper-1", "demo", "gpt-4o-mini-transcribe", "gpt-transcribe"])
@pytest.mark.parametrize("route", ROUTES)
def test_json_fits_its_schema(client: TestClient, route: str, model: str, audio: str) -> None:
    answer = ask(client, {"model": model, "language": "en"}, audio=audio, route=route).json()
    fits(answer, THEIRS[route, "json"], OURS[route, "json"])


def test_verbose_answer_fits_more_than_one_of_the_published_choices(client: TestClient) -> None:
    """Which is why answers are held against the schema that `response_format` selects (contract, 3.8)."""
    answer = ask(client, VERBOSE).json()
    names = [name for (route, _), name in THEIRS.items() if route == "transcriptions"]
    one_of = {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names], **OPENAI}
    assert not Draft202012Validator(one_of).is_valid(answer)


@pytest.mark.parametrize("route", ROUTES)
def test_json_is_compact(client: TestClient, route: str) -> None:
    for response_format in ("json", "verbose_json"):
        answer = ask(client, {"response_format": response_format, **BOTH}, route=route)
        assert answer.text == json.dumps(answer.json(), separators=(",", ":"), ensure_ascii=False)


def test_nothing_is_null(client: TestClient) -> None:
    for audio in (SPEECH, SILENCE):
        assert "null" not in ask(client, {**VERBOSE, **BOTH}, audio=audio).text


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
@pytest.mark.parametrize("accept", ["application/json", "text/vtt", "*/*", "text/event-stream"])
def test_accept_header_says_nothing(client: TestClient, response_format: str, accept: str) -> None:
    fields = {"response_format": response_format}
    plain = ask(client, fields, audio=SILENCE)
    client.headers["accept"], before = accept, client.headers["accept"]
    try:
        answer = ask(client, fields, audio=SILENCE)
    finally:
        client.headers["accept"] = before
    assert (answer.headers["content-type"], answer.text) == (plain.headers["content-type"], plain.text)


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_translations_come_as_plain_text_too(client: TestClient, response_format: str) -> None:
    answer = ask(client, {"response_format": response_format}, audio=GERMAN, route="translations")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.endswith({"text": "\n", "srt": "\n\n\n", "vtt": "\n\n"}[response_format])
    assert "One zero seven" in answer.text


def test_a_translation_in_json_is_its_text_and_nothing_else(client: TestClient) -> None:
    assert ask(client, audio=GERMAN, route="translations").json().keys() == {"text"}


def test_a_translation_in_verbose_json_is_english_without_usage(client: TestClient) -> None:
    answer = ask(client, VERBOSE, audio=GERMAN, route="translations").json()
    assert (answer["task"], answer["language"], answer["language_code"]) == ("translate", "english", "en")
    assert "usage" not in answer


def test_code_of_the_language_stands_beside_its_name(client: TestClient) -> None:
    answer = ask(client, VERBOSE, audio=GERMAN).json()
    assert (answer["language"], answer["language_code"]) == ("german", "de")


# Usage.


@pytest.mark.parametrize("model", ["whisper-1", "demo"])
def test_usage_of_whisper_ids_is_whole_seconds_rounded_up(client: TestClient, model: str) -> None:
    assert ask(client, {"model": model}).json()["usage"] == {"type": "duration", "seconds": 3}


def usage_of(client: TestClient, **fields: str) -> dict[str, Any]:
    usage = ask(client, {"model": "gpt-4o-transcribe", "language": "en", **fields}).json()["usage"]
    assert isinstance(usage, dict)
    return usage


def test_usage_of_gpt_ids_is_tokens(client: TestClient) -> None:
    verbose = ask(client, {**VERBOSE, "language": "en"}).json()
    text_tokens = sum(len(segment["tokens"]) - 2 for segment in verbose["segments"])  # without both timestamps
    audio_tokens = math.ceil(10 * verbose["duration"])
    assert usage_of(client) == {
        "type": "tokens",
        "input_tokens": audio_tokens,
        "input_token_details": {"text_tokens": 0, "audio_tokens": audio_tokens},
        "output_tokens": text_tokens,
        "total_tokens": audio_tokens + text_tokens,
    }


def test_the_prompt_counts_as_text_tokens(client: TestClient) -> None:
    usage = usage_of(client, prompt="The party.")
    assert usage["input_token_details"]["text_tokens"] > 0
    assert usage["input_tokens"] == sum(usage["input_token_details"].values())
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_usage_of_verbose_json_is_seconds_whatever_the_model(client: TestClient) -> None:
    answer = ask(client, {**VERBOSE, "model": "gpt-4o-transcribe"}).json()
    assert answer["usage"] == {"type": "duration", "seconds": 3}
    fits(answer, THEIRS["transcriptions", "verbose_json"], OURS["transcriptions", "verbose_json"])


def test_only_gpt_transcribe_has_languages(client: TestClient) -> None:
    assert ask(client, {"model": "gpt-transcribe"}).json()["languages"] == [{"code": "en"}]
    assert ask(client, {"model": "gpt-transcribe"}, audio=SILENCE).json()["languages"] == []
    assert "languages" not in ask(client, {"model": "gpt-4o-transcribe"}).json()
    assert ask(client).json() == {"text": SPEECH_TEXT, "usage": {"type": "duration", "seconds": 3}}
