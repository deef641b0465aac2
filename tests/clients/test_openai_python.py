"""OpenAI's Python client, in the ways that `tests/api` does not use it."""

import asyncio
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from openai.types.audio import TranscriptionVerbose

from tests.clients.conftest import BUSY_KEYS, KEY, MODEL, uploads_under_way
from tests.support.bad_inputs import DATA, SPEECH_TEXT
from tests.support.fakes import wait_until
from tests.support.serving import Running

SPEECH = DATA / "en_00.wav"
TEN_MINUTES = DATA / "ten_minutes.ogg"
DISCONNECTED = re.compile(r"499 .* /v1/audio/transcriptions .* disconnected")
WORDS = "The party ends at two o'clock".split()


@pytest.fixture
def client(server: Running) -> Iterator[OpenAI]:
    with server.sdk(KEY) as client:
        yield client


@pytest.fixture
def base_url(server: Running) -> str:
    return f"{server.base_url}/v1"


def named(content: bytes, name: str) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


# Uploads.


@pytest.mark.parametrize(
    "file",
    [
        SPEECH,
        SPEECH.read_bytes(),
        io.BytesIO(SPEECH.read_bytes()),
        named(SPEECH.read_bytes(), "Füße.webm"),
        ("speech.mp3", SPEECH.read_bytes()),
        ("speech", io.BytesIO(SPEECH.read_bytes()), "application/octet-stream"),
        ('a"b.wav', SPEECH.read_bytes(), "audio/wav", {"X-Part": "1"}),
    ],
    ids=["path", "bytes", "buffer", "named-buffer", "pair", "triple", "with-headers"],
)
def test_every_kind_of_file_is_taken(client: OpenAI, file: Any) -> None:
    assert client.audio.transcriptions.create(model=MODEL, file=file).text == SPEECH_TEXT


def test_open_file_is_taken(client: OpenAI) -> None:
    with SPEECH.open("rb") as file:
        assert client.audio.transcriptions.create(model=MODEL, file=file).text == SPEECH_TEXT


# Calls.


@pytest.mark.parametrize(
    "strategy",
    ["auto", {"type": "server_vad", "threshold": 0.4, "prefix_padding_ms": 200, "silence_duration_ms": 300}],
    ids=["auto", "server_vad"],
)
def test_chunking_strategy_is_taken(client: OpenAI, strategy: Any) -> None:
    answer = client.audio.transcriptions.create(model=MODEL, file=SPEECH, chunking_strategy=strategy)
    assert answer.text == SPEECH_TEXT


def test_lists_are_accepted_and_languages_returned(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="gpt-transcribe", file=SPEECH, languages=["en", "de"], keywords=["party", "o'clock"]
    )
    assert answer.text == SPEECH_TEXT
    assert [language.code for language in answer.languages or []] == ["en"]


def test_log_probabilities_spell_the_text(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=SPEECH, include=["logprobs"])
    assert answer.logprobs
    spelled = bytes(int(byte) for token in answer.logprobs for byte in token.bytes or [])
    assert spelled.decode().strip() == SPEECH_TEXT
    assert all(token.logprob is not None and token.logprob <= 0 for token in answer.logprobs)


def test_extra_body_may_hold_anything(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        model="whisper-1",
        file=SPEECH,
        response_format="verbose_json",
        extra_body={
            "timestamp_granularities": ["word", "segment"],
            "nested_words": True,
            "user": {"name": "me", "tags": ["a", "b"]},
            "best_of": None,
        },
    )
    assert isinstance(answer, TranscriptionVerbose)
    assert answer.segments
    assert [word["word"] for word in answer.segments[0].to_dict()["words"]] == WORDS  # type: ignore[attr-defined]


def test_raw_response_parses_and_shows_headers(client: OpenAI) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(model="whisper-1", file=SPEECH)
    assert raw.http_response.headers["content-type"] == "application/json"
    assert raw.parse().text == SPEECH_TEXT
    assert raw.request_id
    assert raw.request_id.startswith("req_")


def test_an_answer_can_be_read_line_by_line(client: OpenAI) -> None:
    create = client.audio.transcriptions.with_streaming_response.create
    with create(model="whisper-1", file=SPEECH, response_format="vtt") as response:
        first, *_, text, last = response.iter_lines()
    assert (first, text, last) == ("WEBVTT", SPEECH_TEXT, "")


def test_async_client_asks_many_things_at_once(base_url: str) -> None:
    async def ask() -> list[str]:
        async with AsyncOpenAI(
            base_url=base_url, api_key=KEY, http_client=DefaultAsyncHttpxClient(trust_env=False)
        ) as client:
            create = client.audio.transcriptions.create
            json, text, verbose = await asyncio.gather(
                create(model="whisper-1", file=SPEECH),
                create(model="whisper-1", file=SPEECH, response_format="text"),
                create(model="whisper-1", file=SPEECH, response_format="verbose_json"),
            )
            models = [model.id async for model in client.models.list()]
            assert MODEL in models
            return [json.text, text.strip(), verbose.text]

    assert asyncio.run(ask()) == [SPEECH_TEXT] * 3


@pytest.mark.parametrize("deployment", [None, "whisper-1"])
def test_azure_client_finds_its_way(server: Running, deployment: str | None) -> None:
    with AzureOpenAI(
        azure_endpoint=server.base_url,
        azure_deployment=deployment,
        api_version="2024-10-21",
        api_key=KEY,
        http_client=DefaultHttpxClient(trust_env=False),
    ) as client:
        assert client.audio.transcriptions.create(model="whisper-1", file=SPEECH).text == SPEECH_TEXT


# Leaving and trying again.


def test_a_client_that_times_out_cancels_its_work(client: OpenAI, server: Running) -> None:
    before = len(DISCONNECTED.findall(server.log))
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).audio.transcriptions.create(model="whisper-1", file=TEN_MINUTES)
    wait_until(lambda: len(DISCONNECTED.findall(server.log)) > before)


def test_a_client_tries_again_after_429(server: Running, base_url: str) -> None:
    statuses = []
    with ExitStack() as busy:

        def resolve(response: Any) -> None:
            statuses.append(response.status_code)
            busy.close()

        busy.enter_context(uploads_under_way(server, BUSY_KEYS[0]))
        http_client = DefaultHttpxClient(trust_env=False, event_hooks={"response": [resolve]})
        with OpenAI(base_url=base_url, api_key=BUSY_KEYS[0], http_client=http_client) as client:
            assert client.audio.transcriptions.create(model="whisper-1", file=SPEECH).text == SPEECH_TEXT
    assert (statuses[0], statuses[-1]) == (429, 200)
