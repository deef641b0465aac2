"""npm `openai` and Vercel's AI SDK, driven by the scripts in `node/`; its lock says which versions."""

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.clients.conftest import BUSY_KEYS, KEY, MODEL, NODE, uploads_under_way
from tests.support.bad_inputs import SPEECH_TEXT
from tests.support.serving import Running, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # the first test may have to install the packages

SCRIPT_S = 100.0
WORDS = "The party ends at two o'clock".split()
INVALID = "invalid_request_error"

Results = Mapping[str, Mapping[str, Any]]


class Script:
    """One of the scripts under way, as a program of its own that knows the server by its environment alone."""

    def __init__(self, node: str, name: str, server: Running, *cases: str, key: str = KEY) -> None:
        variables = {
            "OPENAI_BASE_URL": f"{server.base_url}/v1",
            "OPENAI_API_KEY": key,
            "AZURE_OPENAI_API_KEY": key,
        }
        self._process = subprocess.Popen(
            [node, NODE / name, *cases],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def wait_for_word(self) -> None:
        """Until the script has written a line to standard error."""
        assert self._process.stderr
        assert self._process.stderr.readline()

    def results(self) -> Results:
        """What became of each case: {"value": ...} or {"error": {...}}."""
        try:
            out, err = self._process.communicate(timeout=SCRIPT_S)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, err
        results: Results = json.loads(out)
        return results


@pytest.fixture(scope="module")
def openai(node: str, server: Running) -> Results:
    return Script(node, "openai.mjs", server).results()


@pytest.fixture(scope="module")
def ai_sdk(node: str, server: Running) -> Results:
    return Script(node, "ai-sdk.mjs", server).results()


def value(results: Results, case: str) -> Any:
    assert "error" not in results[case], results[case]["error"]
    return results[case]["value"]


def error(results: Results, case: str) -> dict[str, Any]:
    found = results[case]
    assert "error" in found, found
    return dict(found["error"])


# npm openai.


@pytest.mark.parametrize("case", ["stream", "file", "buffer", "blob"])
def test_openai_uploads_in_every_way(openai: Results, case: str) -> None:
    assert value(openai, case) == {"text": SPEECH_TEXT, "usage": {"type": "duration", "seconds": 3}}


@pytest.mark.parametrize("case", ["text", "srt", "vtt"])
def test_openai_gets_text_formats_as_they_are(openai: Results, server: Running, case: str) -> None:
    assert value(openai, case) == server.transcribe("en_00.wav", {"response_format": case}, key=KEY).text


def test_openai_gets_segments_by_default(openai: Results) -> None:
    answer = value(openai, "verbose")
    assert (answer["language"], answer["duration"]) == ("english", 2.444)
    assert [segment["text"] for segment in answer["segments"]] == [f" {SPEECH_TEXT}"]
    assert "words" not in answer


@pytest.mark.parametrize("case", ["words", "words_and_segments"])
def test_openai_gets_the_granularities_it_asks_for(openai: Results, case: str) -> None:
    answer = value(openai, case)
    assert [word["word"] for word in answer["words"]] == WORDS
    assert ("segments" in answer) == (case == "words_and_segments")


def test_openai_may_put_lists_and_scalars_into_an_extra_body(openai: Results) -> None:
    answer = value(openai, "extra_body")
    assert answer["segments"][0]["words"] == answer["words"]


@pytest.mark.parametrize("case", ["scalars", "chunked", "chunked_by_voice", "speakers"])
def test_openai_sends_every_kind_of_field(openai: Results, case: str) -> None:
    assert value(openai, case)["text"] == SPEECH_TEXT


def test_openai_sends_lists_and_gets_languages(openai: Results) -> None:
    answer = value(openai, "lists")
    assert (answer["text"], answer["languages"]) == (SPEECH_TEXT, [{"code": "en"}])


def test_openai_gets_usage_in_tokens_for_gpt_models(openai: Results) -> None:
    usage = value(openai, "usage")["usage"]
    assert (usage["type"], usage["input_token_details"]) == ("tokens", {"text_tokens": 0, "audio_tokens": 25})
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_openai_gets_log_probabilities(openai: Results) -> None:
    logprobs = value(openai, "logprobs")["logprobs"]
    assert bytes(byte for token in logprobs for byte in token["bytes"]).decode().strip() == SPEECH_TEXT
    assert all(token["logprob"] <= 0 for token in logprobs)


@pytest.mark.parametrize("case", ["streamed", "streamed_windows", "streamed_in_another_format", "streamed_silence"])
def test_openai_streams_deltas_and_their_whole(openai: Results, case: str) -> None:
    *deltas, done = value(openai, case)
    assert {delta["type"] for delta in deltas} <= {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "".join(delta["delta"] for delta in deltas)
    assert len(deltas) == {"streamed_windows": 2, "streamed_silence": 0}.get(case, 1)


def test_openai_streams_log_probabilities(openai: Results) -> None:
    *deltas, done = value(openai, "streamed_with_logprobs")
    assert done["logprobs"] == [token for delta in deltas for token in delta["logprobs"]]
    assert len(done["logprobs"]) > len(WORDS)


def test_openai_throws_what_is_wrong_before_a_stream_begins(openai: Results) -> None:
    found = error(openai, "stream_refused")
    assert (found["class"], found["status"], found["param"]) == ("BadRequestError", 400, "file")


def test_openai_may_leave_a_stream(openai: Results, server: Running) -> None:
    (first,) = value(openai, "stream_left")
    assert first["type"] == "transcript.text.delta"
    server.wait_until_idle()


def test_openai_throws_when_a_stream_is_cut(node: str) -> None:
    with started(grace_seconds=0) as server:
        script = Script(node, "openai.mjs", server.wait_until_ready(), "stream_cut")
        script.wait_for_word()
        server.ask_to_stop()
        found = error(script.results(), "stream_cut")
    assert (found["class"], found["type"]) == ("APIError", "server_error")
    assert "shutting down" in found["message"]


def test_openai_gets_translations(openai: Results) -> None:
    assert value(openai, "translated") == {"text": SPEECH_TEXT}
    assert value(openai, "translated_text") == f"{SPEECH_TEXT}\n"
    assert value(openai, "translated_verbose")["task"] == "translate"


def test_openai_lists_and_retrieves_models(openai: Results) -> None:
    assert {MODEL, "whisper-1"} <= set(value(openai, "models"))
    assert value(openai, "model_with_slash")["id"] == MODEL


@pytest.mark.parametrize("case", ["azure", "without_v1", "like_groq", "trailing_slash"])
def test_openai_finds_the_server_at_other_addresses(openai: Results, case: str) -> None:
    assert value(openai, case)["text"] == SPEECH_TEXT


@pytest.mark.parametrize("case", ["v1_twice", "whole_path"])
def test_openai_client_gets_the_right_path_suggested(openai: Results, case: str) -> None:
    found = error(openai, case)
    assert found["class"] == "NotFoundError"
    assert "/v1/audio/transcriptions" in found["message"]


def test_openai_gives_the_request_id(openai: Results) -> None:
    answer = value(openai, "request_id")
    assert answer["text"] == SPEECH_TEXT
    assert answer["request_id"] == answer["headers"]["x-request-id"]
    assert int(answer["headers"]["openai-processing-ms"]) >= 0


@pytest.mark.parametrize(
    ("case", "kind", "status", "param", "code"),
    [
        ("bad_chunking", "BadRequestError", 400, "chunking_strategy", "invalid_value"),
        ("diarized", "BadRequestError", 400, "response_format", "unsupported_value"),
        ("bad_temperature", "BadRequestError", 400, "temperature", "invalid_value"),
        ("no_audio", "BadRequestError", 400, "file", "invalid_value"),
        ("wrong_key", "AuthenticationError", 401, None, "invalid_api_key"),
        ("unknown_model", "NotFoundError", 404, "model", "model_not_found"),
        ("unknown_model_retrieved", "NotFoundError", 404, "model", "model_not_found"),
        ("unknown_path", "NotFoundError", 404, None, None),
    ],
)
def test_openai_throws_the_class_of_the_error(
    openai: Results, case: str, kind: str, status: int, param: str | None, code: str | None
) -> None:
    found = error(openai, case)
    assert (found["class"], found["status"], found["type"]) == (kind, status, INVALID)
    assert (found["param"], found["code"]) == (param, code)
    assert found["requestID"].startswith("req_")


@pytest.mark.parametrize("case", ["too_large", "too_large_in_chunks"])
def test_openai_can_read_that_an_upload_is_too_large(openai: Results, case: str) -> None:
    found = error(openai, case)
    assert (found["class"], found["status"], found["type"]) == ("APIError", 413, "server_error")
    assert "Maximum content size limit" in found["message"]


@pytest.mark.parametrize(
    ("case", "kind"), [("aborted", "APIUserAbortError"), ("timed_out", "APIConnectionTimeoutError")]
)
def test_openai_leaves_and_its_work_is_dropped(openai: Results, server: Running, case: str, kind: str) -> None:
    assert error(openai, case)["class"] == kind
    server.wait_for_line(r"499 .* POST /v1/audio/transcriptions [\s\S]*499 .* POST /v1/audio/transcriptions ")


@pytest.mark.parametrize(
    ("busy", "key", "kind", "status"),
    [
        (BUSY_KEYS[:1], BUSY_KEYS[0], "RateLimitError", 429),
        (BUSY_KEYS, KEY, "InternalServerError", 503),
    ],
)
def test_openai_client_distinguishes_429_from_503(
    node: str, server: Running, busy: tuple[str, ...], key: str, kind: str, status: int
) -> None:
    with uploads_under_way(server, *busy):
        found = error(Script(node, "openai.mjs", server, "refused", key=key).results(), "refused")
    assert (found["class"], found["status"]) == (kind, status)


def test_openai_tries_again_after_429(node: str, server: Running) -> None:
    key = BUSY_KEYS[1]
    with uploads_under_way(server, key):
        script = Script(node, "openai.mjs", server, "retried", key=key)
        server.wait_for_line(r"429 .* POST /v1/audio/transcriptions ")
    assert value(script.results(), "retried")["text"] == SPEECH_TEXT


# Vercel's AI SDK.


def test_ai_sdk_gets_text_and_duration(ai_sdk: Results) -> None:
    answer = value(ai_sdk, "defaults")
    assert (answer["text"], answer["durationInSeconds"], answer["warnings"]) == (SPEECH_TEXT, 3, [])


@pytest.mark.parametrize(("case", "language"), [("segments", "en"), ("german", "de")])
def test_ai_sdk_gets_segments_and_a_language_code(ai_sdk: Results, case: str, language: str) -> None:
    answer = value(ai_sdk, case)
    (segment,) = answer["segments"]
    assert answer["language"] == language
    assert segment["text"].strip() == answer["text"]
    assert 0 <= segment["startSecond"] < segment["endSecond"] <= answer["durationInSeconds"]


def test_ai_sdk_gets_words_as_segments(ai_sdk: Results) -> None:
    assert [segment["text"] for segment in value(ai_sdk, "words")["segments"]] == WORDS


@pytest.mark.parametrize("case", ["gpt", "logprobs"])
def test_ai_sdk_may_send_what_only_other_formats_have(ai_sdk: Results, case: str) -> None:
    assert value(ai_sdk, case)["text"] == SPEECH_TEXT


def test_ai_sdk_takes_silence_for_no_transcript(ai_sdk: Results) -> None:
    assert error(ai_sdk, "silence")["class"] == "NoTranscriptGeneratedError"


@pytest.mark.parametrize(
    ("case", "status", "message"),
    [
        ("wrong_key", 401, "Incorrect API key provided"),
        ("unknown_model", 404, "The model 'org/none' does not exist"),
        ("no_audio", 400, "The audio file could not be decoded"),
        ("bad_language", 400, "Invalid language 'xx'"),
    ],
)
def test_ai_sdk_shows_the_server_s_own_words(ai_sdk: Results, case: str, status: int, message: str) -> None:
    found = error(ai_sdk, case)
    assert (found["class"], found["status"]) == ("APICallError", status)
    assert found["message"].startswith(message)
