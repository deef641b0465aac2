"""Answers that begin before their end: over a fake engine and no socket where time matters, then over real ones."""

import asyncio
import json
import logging
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import openai
import pytest
import uvicorn
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI
from openai.types.audio import TranscriptionStreamEvent, TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent
from starlette.types import Message, Receive, Scope, Send

from server.api import streaming
from server.api.app import create_app
from server.api.heartbeat import COMMENT, HEARTBEAT_S, HeartbeatResponse, ticking
from server.api.routes import transcriptions
from server.api.streaming import LONGEST_S, event_stream, heartbeat_json
from server.audio.media_decoder import MediaDecoder, Recording
from server.audio.scanner import Scanner
from server.errors import Cancelled, SottoError, Unavailable, UndecodableAudio
from server.options import (
    RESPONSE_FORMATS,
    DecodingOptions,
    StreamEvent,
    TranscriptionOptions,
    UploadFd,
    VadOptions,
)
from server.settings import Settings
from server.transcript import SAMPLE_RATE, Window
from server.transcription.pipeline import Pipeline
from tests.support.bad_inputs import DATA, SPEECH_TEXT, wav
from tests.support.fakes import (
    DEADLINE_S,
    Answer,
    FakeEngine,
    default_answer,
    eventually,
    make_media,
    make_result,
    peek,
    tone,
    upload,
    wait_until,
)
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS, Running, serving
from tests.support.wire import Connection, field, file, form

SPEECH = "en_00.wav"
ENGLISH = TranscriptionOptions(stream=True, decoding=DecodingOptions(language="en"), vad=VadOptions(enabled=False))
PROGRESS: frozenset[StreamEvent] = frozenset({"progress"})
NEVER_S = 10 * DEADLINE_S
AT_ONCE_S = 0.001
FILLERS = 5
BROKEN = "what only the log may tell"

Json = dict[str, Any]


def events_in(body: bytes) -> list[Any]:
    """What a stream holds: objects, and the text of whatever else stands behind `data: `."""
    text = body.decode()
    assert text.endswith("\r\n\r\n")
    blocks = [block for block in text.split("\r\n\r\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    return [json.loads(each) if each.startswith("{") else each for each in data]


def kinds(events: list[Any]) -> list[str]:
    return [event["type"] if isinstance(event, dict) and "type" in event else str(event) for event in events]


def failing_at(index: int, error: Exception) -> Answer:
    return lambda window, options: error if window.index == index else default_answer(window, options)


# Without a socket.


class Client:
    """Both ends of an ASGI exchange: what was sent to it, whether it reads, when it leaves."""

    def __init__(self) -> None:
        self.head: Message = {}
        self.chunks: list[bytes] = []
        self.scope: Scope = {"state": {}}
        self.complete = False
        self.reads = asyncio.Event()
        self.reads.set()
        self._left = asyncio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def failure(self) -> str:
        """What the gate's log says of an answer that began well."""
        error: SottoError = self.scope["state"]["failure"]
        return error.message

    @property
    def events(self) -> list[Any]:
        return events_in(self.body)

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.head["headers"]}

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            assert not self.head
            self.head = message
        else:
            assert self.head
            assert not self.complete
            self.chunks.append(message["body"])
            assert set(message) <= {"type", "body", "more_body"}
            self.complete = not message.get("more_body")


class LateMedia(MediaDecoder):
    """Decodes nothing until `go` is set, or tells of no window."""

    def __init__(self, *, decodes: bool) -> None:
        super().__init__(Scanner(), workers=1, spool_bytes=1 << 30, max_audio_s=3600)
        self.go = threading.Event()
        if not decodes:
            self._threads.submit(self._wait)

    def open(
        self, source: UploadFd, options: VadOptions, *, on_window: Callable[[Window], None], mels: int = 0
    ) -> Recording:
        def late(window: Window) -> None:
            self._wait()
            on_window(window)

        return super().open(source, options, on_window=late, mels=mels)

    def _wait(self) -> None:
        assert self.go.wait(DEADLINE_S), "held for too long"


@asynccontextmanager
async def answering(
    engine: FakeEngine,
    options: TranscriptionOptions = ENGLISH,
    *,
    kind: Callable[..., HeartbeatResponse] = event_stream,
    silence_s: float = NEVER_S,
    seconds: float = 2.5,
    media: MediaDecoder | None = None,
) -> AsyncIterator[tuple[Client, asyncio.Task[None]]]:
    """A response that is being sent: a window for each second and a rest. What it held is closed at its end."""
    media = media or make_media()
    model = served_model(engine, ("demo",), ("en", "de"), window_s=1.0)
    client, held = Client(), AsyncExitStack()
    closed: list[bool] = []
    with upload(tone(seconds)) as source:
        transcription = Pipeline(media, registry_of(model)).transcribe(source, options)
        held.callback(closed.append, True)
        held.push_async_callback(transcription.close)
        response = kind(transcription, options, held, silence_s=silence_s)
        sending = asyncio.create_task(response(client.scope, client.receive, client.send))
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield client, sending
        finally:
            client.leave()
            client.reads.set()
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(sending, return_exceptions=True)
            media.close()
    assert closed == [True]


@pytest.mark.anyio
async def test_a_stream_is_openais_live_form_to_the_byte() -> None:
    async with answering(FakeEngine()) as (client, sending):
        await sending
    assert client.head["status"] == 200
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    assert client.complete
    assert client.body.decode().split("\r\n") == [
        'data: {"type":"transcript.text.delta","delta":"w0"}',
        "",
        'data: {"type":"transcript.text.delta","delta":" w1"}',
        "",
        'data: {"type":"transcript.text.delta","delta":" w2"}',
        "",
        'data: {"type":"transcript.text.done","text":"w0 w1 w2"}',
        "",
        "data: [DONE]",
        "",
        "",
    ]


@pytest.mark.anyio
async def test_a_delta_is_sent_once_its_window_and_all_before_it_are_done() -> None:
    engine = FakeEngine(held=True, max_batch=4)
    async with answering(engine, seconds=3.5) as (client, sending):
        await eventually(lambda: len(engine.waiting) == 1)
        await peek()
        assert not client.head
        engine.resolve(engine.waiting[0])
        await eventually(lambda: len(client.chunks) == 1)
        await eventually(lambda: len(engine.waiting) == 3)
        second, third, _ = engine.waiting
        engine.resolve(third)
        await peek()
        assert [event["delta"] for event in client.events] == ["w0"]
        engine.resolve(second)
        await eventually(lambda: len(client.events) == 3)
        assert not client.complete
        engine.resolve()
        await sending


@pytest.mark.anyio
@pytest.mark.parametrize("decodes", [True, False], ids=["nobody speaks for long", "others are decoded for long"])
async def test_heartbeats_fill_silence_with_comments(decodes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, media = FakeEngine(held=True), LateMedia(decodes=decodes)
    async with answering(engine, silence_s=AT_ONCE_S, media=media) as (client, sending):
        if not decodes:  # it might still turn out to be no audio
            await peek()
            assert not client.head
            monkeypatch.setattr(streaming, "LONGEST_S", AT_ONCE_S)
        await eventually(lambda: len(client.chunks) >= FILLERS)
        assert set(client.chunks) == {b": still working\r\n\r\n"}
        media.go.set()
        engine.resolve()
        await sending
        assert kinds(client.events) == [*["transcript.text.delta"] * 3, "transcript.text.done", "[DONE]"]


def test_heartbeats_come_before_clients_and_proxies_give_up() -> None:
    assert 5 <= HEARTBEAT_S <= 15
    assert HEARTBEAT_S < LONGEST_S < 30


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [event_stream, heartbeat_json])
async def test_an_error_before_the_first_byte_is_raised(kind: Callable[..., HeartbeatResponse]) -> None:
    engine = FakeEngine(failing_at(0, UndecodableAudio()))
    async with answering(engine, kind=kind) as (client, sending):
        with pytest.raises(UndecodableAudio):
            await sending
        assert not client.head


@pytest.mark.anyio
async def test_a_later_error_is_the_last_event() -> None:
    engine = FakeEngine(failing_at(1, Unavailable("The device has gone.")))
    async with answering(engine) as (client, sending):
        await sending
    error = {"message": "The device has gone.", "type": "server_error", "param": None, "code": None}
    assert client.events == [{"type": "transcript.text.delta", "delta": "w0"}, {"error": error}]
    assert client.failure == "The device has gone."
    assert client.complete


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [event_stream, heartbeat_json])
async def test_an_internal_error_is_detailed_only_in_the_log(
    kind: Callable[..., HeartbeatResponse], caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine(failing_at(1, RuntimeError(BROKEN)), held=True)
    async with answering(engine, kind=kind, silence_s=AT_ONCE_S) as (client, sending):
        await eventually(lambda: bool(client.head))
        engine.resolve()
        await sending
    assert b"The server had an error while processing your request. Sorry about that!" in client.body
    assert BROKEN.encode() not in client.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert BROKEN in str(record.exc_info[1])


@pytest.mark.anyio
async def test_progress_comes_at_the_beginning_with_each_window_and_when_the_place_in_the_queue_changes() -> None:
    engine = FakeEngine(held=True)
    engine.ahead = 2
    options = replace(ENGLISH, stream_events=PROGRESS)
    async with answering(engine, options, silence_s=0.05) as (client, sending):
        await eventually(lambda: bool(client.chunks))
        assert client.events == [
            {"type": "sotto.progress", "done_s": 0.0, "total_hint_s": 2.5, "queue_position": 2}
        ]
        engine.ahead = 1
        await eventually(lambda: len(client.events) == 2)
        engine.resolve()
        await sending
    progress = [event for event in client.events if isinstance(event, dict) and event["type"] == "sotto.progress"]
    assert [event["queue_position"] for event in progress] == [2, 1, 0, 0, 0]
    assert [event.get("language") for event in progress] == [None, None, "en", "en", "en"]
    ends = sorted(each.window.end / SAMPLE_RATE for each in engine.submissions)
    assert [event["done_s"] for event in progress] == pytest.approx([0.0, 0.0, *ends], abs=0.001)
    assert kinds(client.events)[-4:] == [
        "transcript.text.delta",
        "sotto.progress",
        "transcript.text.done",
        "[DONE]",
    ]


@pytest.mark.anyio
async def test_events_beyond_openais_are_sent_only_if_requested() -> None:
    async with answering(FakeEngine(), silence_s=AT_ONCE_S) as (client, sending):
        await sending
    assert {kind.partition(".")[0] for kind in kinds(client.events)} == {"transcript", "[DONE]"}


@pytest.mark.anyio
async def test_a_recording_without_a_word_has_an_empty_text() -> None:
    engine = FakeEngine(lambda window, options: make_result(window))
    async with answering(engine) as (client, sending):
        await sending
    assert client.events == [{"type": "transcript.text.done", "text": ""}, "[DONE]"]


@pytest.mark.anyio
@pytest.mark.parametrize("begun", [False, True])
async def test_a_disconnect_ends_the_work_at_once(begun: bool) -> None:
    engine = FakeEngine(held=True)
    async with answering(engine) as (client, sending):
        await eventually(lambda: len(engine.waiting) == 1)
        if begun:
            engine.resolve(engine.waiting[0])
            await eventually(lambda: len(engine.waiting) == 2)
        client.leave()
        await eventually(lambda: engine.waiting == [])
        assert len(engine.cancelled) == 1
        error = (await asyncio.gather(sending, return_exceptions=True))[0]
        assert error is None if begun else isinstance(error, Cancelled)


@pytest.mark.anyio
async def test_a_client_that_does_not_read_delays_no_one_else() -> None:
    engine = FakeEngine()
    async with answering(engine, silence_s=AT_ONCE_S) as (client, sending):
        client.reads.clear()
        await eventually(lambda: len(engine.submissions) == 3)
        await peek()
        assert not client.head
        assert not sending.done()
        client.reads.set()
        await sending
    assert kinds(client.events)[-1] == "[DONE]"


@pytest.mark.anyio
async def test_a_forced_stop_is_reported_inside_the_stream() -> None:
    engine = FakeEngine(held=True)
    async with answering(engine) as (client, sending):
        await eventually(lambda: len(engine.waiting) == 1)
        engine.resolve(engine.waiting[0])
        await eventually(lambda: len(engine.waiting) == 2)
        sending.cancel()
        await sending
        assert client.events[-1]["error"]["message"] == "The server is shutting down."
        assert client.complete
        assert engine.waiting == []


@pytest.mark.anyio
async def test_a_stop_before_the_first_byte_is_answered_by_the_gate() -> None:
    async with answering(FakeEngine(held=True)) as (client, sending):
        await peek()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not client.head


@pytest.mark.anyio
async def test_a_stop_does_not_wait_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.api.heartbeat.LAST_WORD_S", AT_ONCE_S)
    engine = FakeEngine(held=True)
    async with answering(engine) as (client, sending):
        await eventually(lambda: len(engine.waiting) == 1)
        engine.resolve(engine.waiting[0])
        await eventually(lambda: len(client.chunks) == 1)
        client.reads.clear()
        sending.cancel()
        await sending
        assert not client.complete


@pytest.mark.anyio
async def test_spaces_go_before_a_json_answer_that_takes_long() -> None:
    engine = FakeEngine(held=True)
    async with answering(engine, kind=heartbeat_json, silence_s=AT_ONCE_S) as (client, sending):
        await eventually(lambda: len(client.chunks) >= FILLERS)
        assert client.body.isspace()
        assert client.headers["content-type"] == "application/json"
        engine.resolve()
        await sending
    assert json.loads(client.body) == {"text": "w0 w1 w2", "usage": {"type": "duration", "seconds": 3}}
    assert client.complete


@pytest.mark.anyio
async def test_without_silence_there_are_no_spaces() -> None:
    async with answering(FakeEngine(), kind=heartbeat_json) as (client, sending):
        await sending
    assert client.body.startswith(b"{")
    assert client.head["status"] == 200


@pytest.mark.anyio
async def test_an_error_after_spaces_is_the_envelope() -> None:
    engine = FakeEngine(failing_at(0, Unavailable("The device has gone.")), held=True)
    async with answering(engine, kind=heartbeat_json, silence_s=AT_ONCE_S) as (client, sending):
        await eventually(lambda: bool(client.chunks))
        engine.resolve()
        await sending
    error = {"message": "The device has gone.", "type": "server_error", "param": None, "code": None}
    assert json.loads(client.body) == {"error": error}
    assert client.complete


@pytest.mark.anyio
async def test_ticks_fill_pauses_and_no_item_is_lost() -> None:
    """Behind an item too: it is being waited for all the while."""
    go = asyncio.Queue[int]()
    closed: list[bool] = []

    async def items() -> AsyncGenerator[int]:
        try:
            while number := await go.get():
                yield number
            raise Unavailable("The device has gone.")
        finally:
            closed.append(True)

    ticks = ticking(items(), AT_ONCE_S)

    async def next_item() -> int:
        while (item := await anext(ticks)) is None:
            pass
        return item

    async with asyncio.timeout(DEADLINE_S):
        for number in (1, 2):
            assert [await anext(ticks) for _ in range(FILLERS)] == [None] * FILLERS
            go.put_nowait(number)
            assert await next_item() == number
        go.put_nowait(0)
        with pytest.raises(Unavailable):
            await next_item()
    assert closed == [True]


@pytest.mark.anyio
async def test_closing_ticks_ends_the_source() -> None:
    closed: list[bool] = []

    async def never() -> AsyncGenerator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            closed.append(True)

    async with aclosing(ticking(never(), AT_ONCE_S)) as ticks, asyncio.timeout(DEADLINE_S):
        assert await anext(ticks) is None
    assert closed == [True]


# A socket and a fake engine: what clients make of what is hard to bring about.


class Counted(HeartbeatResponse):
    """Counts what filled a silence."""

    fillers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            await send(message)
            Counted.fillers += message.get("body") == COMMENT

        await super().__call__(scope, receive, counted)


@contextmanager
def live(engine: FakeEngine, **settings: Any) -> Iterator[str]:
    """A server in a thread, one window for each second; its address."""
    served = served_model(engine, ("demo",), ("en", "de"), window_s=1.0)
    media = make_media()
    app = create_app(Settings(**settings), registry_of(served), media)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="h11", ws="none", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        engine.resolve()
        server.should_exit = True
        thread.join(DEADLINE_S)
        media.close()
    assert not thread.is_alive()


@contextmanager
def sdk_of(base_url: str) -> Iterator[OpenAI]:
    http_client = DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=f"{base_url}/v1", api_key="x", max_retries=0, http_client=http_client) as client:
        yield client


def streamed(client: OpenAI, **options: Any) -> Iterator[TranscriptionStreamEvent]:
    given = {"model": "whisper-1", "file": wav(tone(2.5).tobytes()), **options}
    with client.audio.transcriptions.create(stream=True, extra_body={"vad_filter": False}, **given) as events:
        yield from events


def test_sdk_reads_a_stream_with_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HeartbeatResponse", Counted)
    monkeypatch.setattr(transcriptions, "event_stream", partial(event_stream, silence_s=AT_ONCE_S))
    Counted.fillers = 0
    engine = FakeEngine(held=True)
    with live(engine) as base_url, sdk_of(base_url) as client, ThreadPoolExecutor() as pool:
        answer = pool.submit(lambda: [event.type for event in streamed(client)])
        wait_until(lambda: Counted.fillers >= FILLERS)
        engine.resolve()
        assert answer.result(DEADLINE_S) == [*["transcript.text.delta"] * 3, "transcript.text.done"]


def test_sdk_raises_for_an_error_event() -> None:
    engine = FakeEngine(failing_at(1, RuntimeError(BROKEN)))
    with live(engine) as base_url, sdk_of(base_url) as client:
        events = streamed(client)
        assert next(events).type == "transcript.text.delta"
        with pytest.raises(openai.APIError, match="The server had an error") as caught:
            next(events)
        assert caught.value.type == "server_error"


def test_sdk_raises_by_status_for_what_fails_before_the_first_byte() -> None:
    engine = FakeEngine(failing_at(0, RuntimeError(BROKEN)))
    with live(engine) as base_url, sdk_of(base_url) as client:
        with pytest.raises(openai.InternalServerError):
            next(streamed(client))
        with pytest.raises(openai.BadRequestError) as caught:
            next(streamed(client, file=b"no sound"))
        assert caught.value.code == "invalid_value"


@pytest.mark.parametrize("response_format", ["json", "verbose_json"])
def test_sdk_reads_json_behind_spaces(response_format: Any) -> None:
    engine = FakeEngine(held=True)
    audio = wav(tone(2.5).tobytes())
    body = form(
        field("model", "whisper-1"),
        field("response_format", response_format),
        field("vad_filter", "false"),
        file(audio),
    )
    with live(engine, json_heartbeat_seconds=AT_ONCE_S) as base_url, sdk_of(base_url) as client:
        with Connection(base_url) as connection:
            connection.send_head({"Content-Length": str(len(body))})
            connection.send(body)
            received = b""
            while not received.endswith(b"\r\n1\r\n \r\n"):
                received += connection.socket.recv(4096)
        wait_until(lambda: bool(engine.cancelled))
        engine.resolve()
        answer = client.audio.transcriptions.create(
            model="whisper-1", file=audio, response_format=response_format, extra_body={"vad_filter": False}
        )
        assert answer.text == "w0 w1 w2"


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_no_spaces_go_before_plain_text(response_format: Any) -> None:
    with live(FakeEngine(), json_heartbeat_seconds=AT_ONCE_S) as base_url, sdk_of(base_url) as client:
        raw = client.audio.transcriptions.with_raw_response.create(
            model="whisper-1", file=wav(), response_format=response_format
        )
        assert int(raw.headers["content-length"]) == len(raw.content)


# The real thing.


def split(events: list[Any]) -> tuple[list[Any], Any]:
    *deltas, last = events
    assert all(type(each) is TranscriptionTextDeltaEvent for each in deltas)
    assert type(last) is TranscriptionTextDoneEvent
    assert "".join(each.delta for each in deltas) == last.text
    return deltas, last


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
def test_sdk_reads_deltas_and_the_end_whatever_the_format(sdk: OpenAI, response_format: Any) -> None:
    with sdk.audio.transcriptions.create(
        model="whisper-1", file=DATA / SPEECH, response_format=response_format, stream=True
    ) as stream:
        (delta,), last = split(list(stream))
    assert (delta.delta, last.text) == (SPEECH_TEXT, SPEECH_TEXT)
    assert delta.logprobs is None
    assert last.usage is None
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_text_of_a_stream_is_that_of_the_json(sdk: OpenAI) -> None:
    recording = DATA / "long_pause.flac"
    with sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording, stream=True) as stream:
        deltas, last = split(list(stream))
    plain = sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording)
    assert last.text == plain.text
    assert plain.usage
    assert last.usage.to_dict() == plain.usage.to_dict()
    assert len(deltas) == 2


def test_sdk_reads_logprobs_of_deltas_and_of_the_whole(sdk: OpenAI) -> None:
    with sdk.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=DATA / "long_pause.flac", stream=True, include=["logprobs"]
    ) as stream:
        deltas, last = split(list(stream))
    assert len(deltas) == 2
    of_deltas = [each.to_dict() for delta in deltas for each in delta.logprobs]
    assert of_deltas == [each.to_dict() for each in last.logprobs]
    assert "".join(each.token for each in last.logprobs).strip() == last.text
    assert last.usage.output_tokens == len(last.logprobs)


def test_asynchronous_sdk_reads_a_stream(server: Running) -> None:
    async def read() -> list[Any]:
        http_client = DefaultAsyncHttpxClient(trust_env=False)
        async with AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="x", http_client=http_client) as client:
            stream = await client.audio.transcriptions.create(model="whisper-1", file=DATA / SPEECH, stream=True)
            return [event async for event in stream]

    _, last = split(asyncio.run(read()))
    assert last.text == SPEECH_TEXT


def test_segments_come_with_their_words(server: Running) -> None:
    answer = server.transcribe(
        "long_pause.flac",
        {"stream": "true", "stream_events[]": "segments", "timestamp_granularities[]": ["word", "segment"]},
    )
    verbose = server.transcribe(
        "long_pause.flac",
        {
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"],
            "nested_words": "true",
        },
    ).json()
    events = events_in(answer.content)
    assert kinds(events) == [
        *["transcript.text.delta", "sotto.segment"] * 2,
        "transcript.text.done",
        "[DONE]",
    ]
    segments = events[1:4:2]
    assert segments == [{"type": "sotto.segment", **segment} for segment in verbose["segments"]]
    assert all(segment["words"] for segment in segments)


def test_a_translation_can_be_streamed(server: Running) -> None:
    with Connection(server.base_url) as connection:
        body = form(field("model", "whisper-1"), field("stream", "true"), file(wav()))
        connection.send_head({"Content-Length": str(len(body))}, path="/v1/audio/translations")
        connection.send(body)
        assert kinds(events_in(connection.answer().body))[-2:] == ["transcript.text.done", "[DONE]"]


STREAM = form(field("model", "whisper-1"), field("stream", "true"), file(wav()))


def test_a_stream_is_chunked_and_its_connection_is_used_again(server: Running) -> None:
    with Connection(server.base_url) as connection:
        answers = [connection.post(STREAM) for _ in range(2)]
    for answer in answers:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in answer.headers
        assert answer.headers["x-request-id"].startswith("req_")
        assert kinds(events_in(answer.body)) == ["transcript.text.delta", "transcript.text.done", "[DONE]"]


def test_a_client_of_http_1_0_reads_to_the_end_of_the_connection(server: Running) -> None:
    with Connection(server.base_url) as connection:
        head = f"POST {TRANSCRIPTIONS} HTTP/1.0\r\nContent-Length: {len(STREAM)}\r\n"
        connection.send(
            f"{head}Content-Type: multipart/form-data; boundary=test-boundary\r\n\r\n".encode() + STREAM
        )
        answer = connection.answer()
    assert "transfer-encoding" not in answer.headers
    assert kinds(events_in(answer.body))[-1] == "[DONE]"


def test_errors_of_a_request_for_a_stream_are_answers_like_any_other(server: Running) -> None:
    for audio, fields in ((b"no sound", {}), (SPEECH, {"language": "xx"}), (SPEECH, {"stream_events": "words"})):
        answer = server.transcribe(audio, {"stream": "true", **fields})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
        assert answer.json()["error"]["param"] in {"file", "language", "stream_events"}


def test_progress_ends_with_the_whole_length(server: Running) -> None:
    """Though nothing of it was told: nobody speaks."""
    answer = server.transcribe("silence_10s.wav", {"stream": "true", "stream_events[]": "progress"})
    assert events_in(answer.content) == [
        {"type": "sotto.progress", "done_s": 10.0, "total_hint_s": 10.0, "queue_position": 0},
        {"type": "transcript.text.done", "text": ""},
        "[DONE]",
    ]


@contextmanager
def begun(server: Running) -> Iterator[Connection]:
    """The stream of a long recording, of which the first words have come."""
    audio = (DATA / "ten_minutes.ogg").read_bytes()
    body = form(field("model", "whisper-1"), field("stream", "true"), file(audio))
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body))})
        connection.send(body)
        received = b""
        while b"transcript.text.delta" not in received:
            received += connection.socket.recv(4096)
        yield connection


def test_a_disconnect_mid_stream_cancels_the_windows(server: Running) -> None:
    logged = len(server.log)
    with begun(server):
        pass
    server.wait_until_idle()
    line = r"200 .*/v1/audio/transcriptions .* audio [\d.]+s .* disconnected \["
    wait_until(lambda: re.search(line, server.log[logged:]) is not None)
    assert "Traceback" not in server.log[logged:]
    assert server.transcribe(SPEECH).json()["text"] == SPEECH_TEXT


def test_a_forced_stop_ends_a_stream_with_an_error() -> None:
    with serving(grace_seconds=0) as server, begun(server) as connection:
        server.ask_to_stop()
        received = b""
        while chunk := connection.socket.recv(4096):
            received += chunk
        assert b'data: {"error":{"message":"The server is shutting down."' in received
        assert b"[DONE]" not in received
        assert server.wait_for_end() == 0
