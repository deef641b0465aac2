"""Requests over a real `MediaDecoder` and a `FakeEngine`: a second of tone is a window, or a little more."""

import asyncio
import errno
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from server.audio.media_decoder import MediaDecoder, Recording
from server.audio.scanner import Scanner
from server.engine.engine import Engine
from server.engine.interface import EngineLike
from server.engine.limits import BatchLimits
from server.errors import (
    AudioTooLong,
    Cancelled,
    ModelBroken,
    ModelNotFound,
    Unavailable,
    UndecodableAudio,
    UnknownLanguage,
)
from server.keep_alive import FOREVER
from server.models.known_model import KnownModel
from server.options import DecodingOptions, TranscriptionOptions, UploadFd, VadOptions
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelPool
from server.pool.registry import Registry
from server.pool.slot import ModelSlot
from server.transcript import SAMPLE_RATE, Segment, Window, WindowResult
from server.transcription.pipeline import Pipeline, Transcription
from server.transcription.run import SegmentGroup
from tests.support.bad_inputs import silence
from tests.support.fakes import (
    DEADLINE_S,
    Answer,
    FakeEngine,
    FakeModel,
    Outcome,
    Samples,
    default_answer,
    eventually,
    make_media,
    make_result,
    peek,
    tone,
    upload,
    wait_until,
)
from tests.support.launches import Engines
from tests.support.registries import registry_of, served_model

pytestmark = pytest.mark.anyio

ENGLISH = DecodingOptions(language="en")
DETECT = DecodingOptions()

Probs = tuple[tuple[str, float], ...]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Flow:
    """A pipeline and what it works with."""

    pipeline: Pipeline
    media: MediaDecoder

    @asynccontextmanager
    async def request(
        self,
        source: UploadFd,
        decoding: DecodingOptions = ENGLISH,
        *,
        vad: bool = False,
        model: str = "",
        stream: bool = False,
    ) -> AsyncIterator[Transcription]:
        """A transcription that leaves no task and no decoded audio behind."""
        before = asyncio.all_tasks()
        options = TranscriptionOptions(model=model, stream=stream, decoding=decoding, vad=VadOptions(enabled=vad))
        transcription = self.pipeline.transcribe(source, options)
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield transcription
        finally:
            async with asyncio.timeout(DEADLINE_S):
                await transcription.close()
        assert asyncio.all_tasks() <= before


class GatedMedia(MediaDecoder):
    """Its workers stop at each window until `go` is set."""

    def __init__(self) -> None:
        super().__init__(Scanner(), workers=1, spool_bytes=1 << 30, max_audio_s=3600)
        self.recordings: list[Recording] = []
        self.go = threading.Event()
        self.at_gate = threading.Event()

    def open(
        self, source: UploadFd, options: VadOptions, *, on_window: Callable[[Window], None], mels: int = 0
    ) -> Recording:
        def gate(window: Window) -> None:
            on_window(window)
            self.at_gate.set()
            assert self.go.wait(DEADLINE_S), "held for too long"

        self.recordings.append(super().open(source, options, on_window=gate, mels=mels))
        return self.recordings[-1]


@contextmanager
def flow(
    engine: EngineLike,
    *,
    max_windows: int = 512,
    window_s: float = 1.0,
    max_audio_s: float = 3600,
    spool_bytes: int = 1 << 30,
    media: MediaDecoder | None = None,
) -> Iterator[Flow]:
    media = media or make_media(spool_bytes=spool_bytes, max_audio_s=max_audio_s)
    model = served_model(engine, names=("demo",), languages=("en", "de", "es"), window_s=window_s)
    try:
        yield Flow(Pipeline(media, registry := registry_of(model), max_windows=max_windows), media)
    finally:
        media.close()
        engine.close()
    assert media.spooled_bytes == 0
    assert registry.default.leases == 0


def texts(segments: tuple[Segment, ...] | list[Segment]) -> list[str]:
    return [segment.text.strip() for segment in segments]


def numbered(count: int) -> list[str]:
    return [f"w{index}" for index in range(count)]


def speaking(*detected: Probs) -> Answer:
    """Detects `detected` for the windows in turn, its last for later ones; the text names the language."""

    def answer(window: Window, options: DecodingOptions) -> WindowResult:
        probs = detected[min(window.index, len(detected) - 1)]
        language = options.language or probs[0][0]
        text = f" w{window.index}-{language}"
        return make_result(window, text, language=language, probs=() if options.language else probs)

    return answer


# Order and bounds


async def test_segments_come_in_order_though_results_do_not() -> None:
    engine = FakeEngine(max_batch=4, held=True)
    with flow(engine) as on, upload(tone(6.5)) as source:
        async with on.request(source) as transcription:
            await eventually(lambda: len(engine.waiting) == 7)
            for submission in reversed(engine.waiting):
                engine.resolve(submission)
                await peek()
            assert texts((await transcription.result()).segments) == numbered(7)


async def test_a_segment_comes_as_soon_as_all_before_it_are_there() -> None:
    engine = FakeEngine(max_batch=4, held=True)
    with flow(engine) as on, upload(tone(6.5)) as source:
        async with on.request(source) as transcription:
            segments = aiter(transcription)
            await eventually(lambda: len(engine.waiting) == 7)
            first, second, third = engine.waiting[:3]
            engine.resolve(third, first)
            assert (await anext(segments)).text == " w0"
            behind = asyncio.ensure_future(anext(segments))
            await peek()
            assert not behind.done()
            engine.resolve(second)
            assert [(await behind).text, (await anext(segments)).text] == [" w1", " w2"]


async def test_segments_come_window_by_window_behind_an_empty_passage_for_the_file() -> None:
    engine = FakeEngine(
        lambda window, _: make_result(window, *[f" w{window.index}"] * (window.index % 3)), held=True
    )
    with flow(engine) as on, upload(tone(3.5)) as source:
        async with on.request(source) as transcription:
            passages = aiter(transcription.segment_groups())
            assert await anext(passages) == SegmentGroup((), 0.0)
            await eventually(lambda: bool(engine.waiting))
            engine.resolve()
            rest = [passage async for passage in passages]
    assert [texts(passage.segments) for passage in rest] == [[], ["w1"], ["w2", "w2"], []]
    assert [passage.done_s for passage in rest] == sorted(
        each.window.end / SAMPLE_RATE for each in engine.submissions
    )


async def test_a_file_without_speech_has_no_passages() -> None:
    with flow(FakeEngine()) as on, upload(silence(2)) as source:
        async with on.request(source, vad=True) as transcription:
            assert [passage async for passage in transcription.segment_groups()] == []
            assert (await transcription.result()).segments == ()
            assert transcription.done_s == 2.0


@pytest.mark.parametrize("decoding", [ENGLISH, DETECT, replace(DETECT, multilingual=True)])
async def test_the_first_window_of_a_stream_goes_ahead_alone(decoding: DecodingOptions) -> None:
    engine = FakeEngine(max_batch=4, held=True)
    with flow(engine) as on, upload(tone(6.5)) as source:
        async with on.request(source, decoding, stream=True) as transcription:
            await eventually(lambda: len(engine.waiting) == 1)
            await peek()
            (first,) = engine.waiting
            engine.resolve(first)
            await eventually(lambda: len(engine.waiting) == 6)
            assert (await anext(aiter(transcription))).text == " w0"
            engine.resolve()
            assert texts((await transcription.result()).segments) == numbered(7)


async def test_the_first_window_of_a_stream_may_fail() -> None:
    with flow(FakeEngine(failing_at(0))) as on, upload(tone(3.5)) as source:
        async with on.request(source, stream=True) as transcription:
            with pytest.raises(ValueError, match="bad 0"):
                await transcription.result()


async def test_a_request_keeps_twice_a_batch_with_the_engine() -> None:
    engine = FakeEngine(max_batch=3, held=True)
    with flow(engine) as on, upload(tone(30)) as source:
        async with on.request(source) as transcription:
            await eventually(lambda: len(engine.waiting) == 6)
            await peek()
            assert len(engine.waiting) == 6
            engine.resolve(engine.waiting[2])
            await eventually(lambda: len(engine.waiting) == 6)
            engine.resolve()
            assert texts((await transcription.result()).segments) == numbered(len(engine.submissions))
            assert engine.most_waiting == 6


async def test_all_requests_together_keep_max_windows_with_the_engines() -> None:
    engine = FakeEngine(max_batch=3, held=True)
    with flow(engine, max_windows=4) as on, upload(tone(10)) as one, upload(tone(10)) as other:
        async with on.request(one) as first, on.request(other) as second:
            await eventually(lambda: len(engine.waiting) == 4)
            await peek()
            assert len(engine.waiting) == 4
            engine.resolve()
            for transcript in await asyncio.gather(first.result(), second.result()):
                assert texts(transcript.segments) == numbered(len(engine.submissions) // 2)
            assert engine.most_waiting == 4


async def test_the_engine_gets_the_samples_of_each_window_with_their_surroundings() -> None:
    audio = tone(5)
    engine = FakeEngine()
    with flow(engine) as on, upload(audio) as source:
        async with on.request(source) as transcription:
            await transcription.result()
    assert len(engine.submissions) == 6
    for window in (submission.window for submission in engine.submissions):
        expected = audio[window.offset - window.lead : window.end + window.tail]
        assert np.array_equal(np.frombuffer(window.samples, np.int16), expected)
        assert window.lead == (200 if window.index else 0)


async def test_two_requests_at_once_are_not_mixed_up() -> None:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        return make_result(window, f" {options.prompt}{window.index}")

    with (
        flow(Engine(FakeModel(answer, workers=2), BatchLimits())) as on,
        upload(tone(20)) as one,
        upload(tone(15)) as other,
    ):
        async with (
            on.request(one, replace(ENGLISH, prompt="a")) as first,
            on.request(other, replace(ENGLISH, prompt="b")) as second,
        ):
            results = await asyncio.gather(first.result(), second.result())
            for transcript, letter, duration_s in zip(results, "ab", (20, 15), strict=True):
                found = texts(transcript.segments)
                assert found == [f"{letter}{index}" for index in range(len(found))]
                assert transcript.duration_s == duration_s
            assert first.id != second.id


# What a transcription tells


async def test_duration_and_progress_are_told_in_time() -> None:
    engine = FakeEngine(held=True)
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source) as transcription:
            assert transcription.done_s == 0
            await eventually(lambda: bool(engine.waiting))
            assert transcription.duration_hint_s == 4.5
            assert transcription.duration_s is None
            engine.resolve()
            done = []
            async for segment in transcription:
                done.append(transcription.done_s)
                assert segment.end <= 4.5
            assert done == sorted(done)
            assert transcription.done_s == transcription.duration_s == 4.5


async def test_the_result_holds_the_whole_transcription() -> None:
    decoding = replace(ENGLISH, task="translate")
    with flow(FakeEngine()) as on, upload(tone(3.5)) as source:
        async with on.request(source, decoding) as transcription:
            transcript = await transcription.result()
    assert (transcript.task, transcript.language, transcript.language_probability) == ("translate", "en", None)
    assert transcript.duration_s == 3.5
    assert transcript.text == "w0 w1 w2 w3"
    assert [segment.id for segment in transcript.segments] == [0, 1, 2, 3]


@pytest.mark.parametrize("counts", [(5, 5, 5), (5, 2, 0), (0, 0, 0)])
async def test_the_callers_prompt_is_counted_once(counts: tuple[int, ...]) -> None:
    def answer(window: Window, options: DecodingOptions) -> WindowResult:
        return replace(default_answer(window, options), prompt_tokens=counts[window.index])

    with flow(FakeEngine(answer)) as running, upload(tone(2.5)) as source:
        async with running.request(source) as transcription:
            assert transcription.prompt_tokens == 0
            async for _ in transcription:
                assert transcription.prompt_tokens == counts[0]
        async with running.request(source) as transcription:
            assert (await transcription.result()).prompt_tokens == counts[0]


@pytest.mark.parametrize(("duration_s", "priority"), [(59, "interactive"), (61, "bulk")])
async def test_short_files_go_first(duration_s: float, priority: str) -> None:
    engine = FakeEngine()
    with flow(engine, window_s=30) as on, upload(tone(duration_s)) as source:
        async with on.request(source) as transcription:
            await transcription.result()
    assert {submission.priority for submission in engine.submissions} == {priority}
    assert {submission.request for submission in engine.submissions} == {transcription.id}


async def test_the_queue_is_behind_a_request_once_its_first_result_is_there() -> None:
    engine = FakeEngine(held=True)
    engine.ahead = 3
    with flow(engine) as on, upload(tone(3.5)) as source:
        async with on.request(source) as transcription:
            assert transcription.queue_position == 3
            await eventually(lambda: len(engine.waiting) == 4)
            assert transcription.queue_position == 3
            engine.resolve(engine.waiting[0])
            await eventually(lambda: transcription.queue_position == 0)
            engine.resolve()
            await transcription.result()


# Language


async def test_a_sure_first_window_decides_for_the_others() -> None:
    engine = FakeEngine(speaking((("es", 0.8), ("en", 0.2)), (("de", 0.9),), (("es", 0.6),)), held=True)
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            await eventually(lambda: len(engine.waiting) == 3)
            await peek()
            assert len(engine.waiting) == 3  # the others wait for its language
            engine.resolve()
            transcript = await transcription.result()
    assert texts(transcript.segments) == [f"w{index}-es" for index in range(5)]
    assert (transcript.language, transcript.language_probability) == ("es", 0.8)
    asked = [(submission.window.index, submission.options.language) for submission in engine.submissions]
    assert sorted(asked[:3]) == [(0, None), (1, None), (2, None)]
    assert sorted(asked[3:]) == [(1, "es"), (3, "es"), (4, "es")]


async def test_the_language_is_known_at_the_first_segment() -> None:
    with flow(FakeEngine(speaking((("de", 0.9),)))) as on, upload(tone(3.5)) as source:
        async with on.request(source, DETECT) as transcription:
            async for _ in transcription:
                assert (transcription.language, transcription.language_probability) == ("de", 0.9)


async def test_unsure_first_windows_vote_and_those_heard_otherwise_are_heard_again() -> None:
    unsure: list[Probs] = [
        (("en", 0.45), ("de", 0.40)),
        (("de", 0.49), ("en", 0.30)),
        (("de", 0.46), ("es", 0.40)),
    ]
    engine = FakeEngine(speaking(*unsure))
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert transcript.language == "de"
    assert transcript.language_probability == pytest.approx((0.40 + 0.49 + 0.46) / 3)
    assert texts(transcript.segments) == [f"w{index}-de" for index in range(5)]
    asked = [(submission.window.index, submission.options.language) for submission in engine.submissions]
    assert sorted(asked[:3]) == [(0, None), (1, None), (2, None)]
    assert sorted(asked[3:]) == [(0, "de"), (3, "de"), (4, "de")]


async def test_the_vote_ends_with_the_first_window_that_is_sure() -> None:
    engine = FakeEngine(speaking((("en", 0.4), ("es", 0.3)), (("es", 0.9), ("en", 0.1))))
    with flow(engine) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert texts(transcript.segments) == [f"w{index}-es" for index in range(5)]
    assert transcript.language_probability == pytest.approx((0.3 + 0.9) / 2)


async def test_windows_in_which_nothing_is_said_have_no_vote() -> None:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        language = options.language or ("de" if window.index == 0 else "es")
        said = [] if window.index == 0 else [f" w{window.index}-{language}"]
        return make_result(window, *said, language=language, probs=((language, 0.99),))

    with flow(FakeEngine(answer)) as on, upload(tone(3.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert transcript.language == "es"
    assert texts(transcript.segments) == ["w1-es", "w2-es", "w3-es"]


@pytest.mark.parametrize("seconds", [0.9, 1.9])
async def test_a_file_with_fewer_windows_than_the_vote_wants_ends(seconds: float) -> None:
    engine = FakeEngine(speaking((("de", 0.3), ("en", 0.2))))
    with flow(engine) as on, upload(tone(seconds)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert transcript.language == "de"
    assert texts(transcript.segments) == [f"w{index}-de" for index in range(len(engine.submissions))]
    assert len(engine.submissions) < 3


@pytest.mark.parametrize("decoding", [DETECT, ENGLISH, replace(DETECT, multilingual=True)])
async def test_where_nobody_speaks_the_engine_is_not_asked(decoding: DecodingOptions) -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload(silence(3)) as source:
        async with on.request(source, decoding, vad=True) as transcription:
            transcript = await transcription.result()
    assert (transcript.text, transcript.segments, transcript.language) == ("", (), "en")
    assert transcript.language_probability is None
    assert transcript.duration_s == 3.0
    assert engine.submissions == []


async def test_windows_without_any_speech_give_an_empty_text() -> None:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        return make_result(window, probs=(("es", 0.6),))

    with flow(FakeEngine(answer)) as on, upload(tone(4.5)) as source:
        async with on.request(source, DETECT) as transcription:
            transcript = await transcription.result()
    assert (transcript.text, transcript.duration_s) == ("", 4.5)


async def test_multilingual_asks_for_the_language_of_each_window() -> None:
    engine = FakeEngine(speaking((("es", 0.3),), (("de", 0.9),), (("en", 0.9),)), held=True)
    with flow(engine) as on, upload(tone(2.5)) as source:
        async with on.request(source, replace(DETECT, multilingual=True)) as transcription:
            await eventually(lambda: len(engine.waiting) == 3)  # none waits for another
            engine.resolve()
            transcript = await transcription.result()
    assert texts(transcript.segments) == ["w0-es", "w1-de", "w2-en"]
    assert {submission.options.language for submission in engine.submissions} == {None}
    assert (transcript.language, transcript.language_probability) == ("es", 0.3)


async def test_candidate_languages_reach_the_engine() -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload(tone(0.9)) as source:
        async with on.request(source, replace(DETECT, languages=("de", "en"))) as transcription:
            await transcription.result()
    assert engine.submissions[0].options.languages == ("de", "en")


@pytest.mark.parametrize(
    ("decoding", "param"),
    [
        (replace(ENGLISH, language="fr"), "language"),
        (replace(DETECT, languages=("en", "fr")), "languages"),
        (replace(ENGLISH, language="fr", languages=("fr",)), "languages"),
    ],
)
async def test_a_language_that_the_model_does_not_know_is_refused_at_once(
    decoding: DecodingOptions, param: str
) -> None:
    with flow(FakeEngine()) as on, upload(tone(1)) as source:
        with pytest.raises(UnknownLanguage, match="'fr'") as caught:
            on.pipeline.transcribe(source, TranscriptionOptions(decoding=decoding))
        assert caught.value.param == param
        assert on.media.spooled_bytes == 0


async def test_a_model_that_is_not_there_is_refused_at_once() -> None:
    with flow(FakeEngine()) as on, upload(tone(1)) as source:
        with pytest.raises(ModelNotFound, match="other"):
            on.pipeline.transcribe(source, TranscriptionOptions(model="other"))
        assert on.media.spooled_bytes == 0


# Windows that the model hears only in part


def stopping_after(samples: int) -> Answer:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        return make_result(window, f" at{window.offset}", consumed=min(samples, window.length))

    return answer


async def test_what_the_model_did_not_hear_is_given_to_it_again() -> None:
    audio = tone(25)
    engine = FakeEngine(stopping_after(3 * SAMPLE_RATE), held=True)
    with flow(engine, window_s=10) as on, upload(audio) as source:
        async with on.request(source) as transcription:
            await eventually(lambda: len(engine.waiting) == 3)
            engine.resolve(*reversed(engine.waiting))  # the last window's rest comes back first
            await eventually(lambda: len(engine.waiting) == 3)
            engine.resolve()
            transcript = await transcription.result()
    submitted = sorted((submission.window for submission in engine.submissions), key=lambda window: window.offset)
    assert len(submitted) > 6
    assert texts(transcript.segments) == [f"at{window.offset}" for window in submitted]
    consumed: list[Samples] = []
    for window in submitted:
        inside = np.frombuffer(window.samples, np.int16)[window.lead :][: window.length]
        consumed.append(inside[: 3 * SAMPLE_RATE])
    assert np.array_equal(np.concatenate(consumed), audio)
    starts = [segment.start for segment in transcript.segments]
    assert starts == [pytest.approx(window.start_s) for window in submitted]


async def test_a_rest_is_heard_in_the_language_of_its_window() -> None:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        probs = () if options.language else (("es", 0.9),)
        return make_result(window, " hm", language=options.language or "es", probs=probs, consumed=8_000)

    engine = FakeEngine(answer)
    with flow(engine) as on, upload(tone(0.95)) as source:
        async with on.request(source, replace(DETECT, multilingual=True)) as transcription:
            await transcription.result()
    assert [submission.options.language for submission in engine.submissions] == [None, "es"]


@pytest.mark.parametrize(("left", "submissions"), [(6_400, 1), (6_401, 2)])
async def test_a_rest_too_short_for_a_word_is_left(left: int, submissions: int) -> None:
    engine = FakeEngine(stopping_after(15_000 - left))
    with flow(engine) as on, upload(tone(15_000 / SAMPLE_RATE)) as source:
        async with on.request(source) as transcription:
            await transcription.result()
    assert len([each for each in engine.submissions if each.window.length >= left]) == submissions


@pytest.mark.parametrize("consumed", [0, -1])
async def test_a_window_of_which_the_model_hears_nothing_is_not_given_again(consumed: int) -> None:
    engine = FakeEngine(stopping_after(consumed))
    with flow(engine) as on, upload(tone(2.5)) as source:
        async with on.request(source) as transcription:
            transcript = await transcription.result()
    assert len(engine.submissions) == len(transcript.segments) == 3


# Errors


def failing_at(*bad: int) -> Answer:
    return lambda window, options: (
        ValueError(f"bad {window.index}") if window.index in bad else default_answer(window, options)
    )


async def test_an_error_of_the_engine_ends_the_request_and_forgets_the_rest() -> None:
    engine = FakeEngine(failing_at(1), max_batch=3, held=True)
    with flow(engine) as on, upload(tone(20)) as source:
        async with on.request(source) as transcription:
            await eventually(lambda: len(engine.waiting) == 6)
            engine.resolve(*engine.waiting[:2])
            segments = aiter(transcription)
            assert (await anext(segments)).text == " w0"
            with pytest.raises(ValueError, match="bad 1"):
                await anext(segments)
            assert engine.waiting == []
            assert engine.cancelled == [transcription.id]
            assert len(engine.submissions) < 10
            await eventually(lambda: on.media.spooled_bytes == 0)


async def test_when_all_windows_fail_there_is_one_error_and_no_noise() -> None:
    logged: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))

    async def fail() -> None:
        engine = FakeEngine(failing_at(*range(30)), held=True, max_batch=4)
        with flow(engine) as on, upload(tone(20)) as source:
            async with on.request(source) as transcription:
                await eventually(lambda: len(engine.waiting) == 8)
                engine.resolve()
                with pytest.raises(ValueError, match="bad 0"):
                    await transcription.result()

    await asyncio.create_task(fail())
    await peek()
    gc.collect()  # asyncio complains when it drops a task whose error nobody has seen
    assert logged == []


async def test_an_engine_that_has_closed_ends_the_request() -> None:
    engine = Engine(FakeModel(), BatchLimits())
    with flow(engine) as on, upload(tone(5)) as source:
        engine.close()
        async with on.request(source) as transcription:
            with pytest.raises(Unavailable, match="shutting down"):
                await transcription.result()


async def test_audio_that_is_too_long_is_told_though_windows_are_stuck_in_the_engine() -> None:
    engine = FakeEngine(held=True)
    with flow(engine, max_audio_s=15) as on, upload(tone(60)) as source:
        async with on.request(source) as transcription:
            with pytest.raises(AudioTooLong):
                await transcription.result()
            assert engine.cancelled == [transcription.id]
            assert engine.waiting == []


async def test_a_file_that_is_no_audio_ends_with_its_error() -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload("README.md") as source:
        async with on.request(source, DETECT) as transcription:
            with pytest.raises(UndecodableAudio):
                await transcription.result()
    assert engine.submissions == []


async def test_a_full_spool_ends_the_request() -> None:
    with flow(FakeEngine(), spool_bytes=500_000) as on, upload(tone(60)) as source:
        async with on.request(source) as transcription:
            with pytest.raises(Unavailable, match="no room left"):
                await transcription.result()


async def test_one_request_fails_and_the_other_goes_on() -> None:
    engine = FakeEngine(held=True)
    with flow(engine, max_audio_s=15) as on, upload(tone(60)) as long, upload(tone(1.5)) as short:
        async with on.request(long) as bad, on.request(short) as good:
            with pytest.raises(AudioTooLong):
                await bad.result()
            await eventually(lambda: len(engine.waiting) == 2)
            engine.resolve()
            assert texts((await good.result()).segments) == numbered(2)


# Ends before the end


async def test_cancelling_frees_everything_and_tells_who_iterates() -> None:
    engine = FakeEngine(held=True)
    with flow(engine) as on, upload(tone(20)) as source:
        async with on.request(source) as transcription:
            result = asyncio.create_task(transcription.result())
            await eventually(lambda: len(engine.waiting) == 4)
            transcription.cancel()
            with pytest.raises(Cancelled):
                await result
            assert engine.cancelled == [transcription.id]
            assert engine.waiting == []
            await eventually(lambda: on.media.spooled_bytes == 0)


async def test_a_request_that_is_cancelled_at_once_ends_too() -> None:
    with flow(FakeEngine(held=True)) as on, upload(tone(20)) as source:
        async with on.request(source) as transcription:
            transcription.cancel()
            with pytest.raises(Cancelled):
                await transcription.result()
            await eventually(lambda: on.media.spooled_bytes == 0)


@pytest.mark.parametrize("later", range(8))
async def test_a_request_that_is_cancelled_again_while_it_ends_gives_everything_back(later: int) -> None:
    engine = FakeEngine(held=True)
    with flow(engine) as on, upload(tone(20)) as source:
        async with on.request(source) as transcription:
            await eventually(lambda: len(engine.waiting) == 4)
            transcription.cancel()
            for _ in range(later):
                await asyncio.sleep(0)
            transcription.cancel()


def fail_for_space() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_request_that_cannot_begin_holds_no_model() -> None:
    with flow(FakeEngine()) as on, upload(tone(2)) as source:
        on.media.scratch.file = fail_for_space  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="No space left"):
            async with on.request(source):
                pass


async def test_a_request_that_is_closed_at_once_is_decoded_no_further() -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload(tone(2)) as source:
        async with on.request(source):
            pass
        await eventually(lambda: on.media.spooled_bytes == 0)
    assert engine.submissions == []


@pytest.mark.parametrize("decoding", [DETECT, ENGLISH])
async def test_room_comes_back_when_requests_are_cancelled(decoding: DecodingOptions) -> None:
    engine = FakeEngine(held=True)
    with flow(engine, max_windows=2) as on, upload(tone(20)) as source, upload(tone(3.5)) as other:
        for count in range(1, 4):
            async with on.request(source, decoding):
                await eventually(lambda: bool(engine.waiting))
            assert len(engine.cancelled) == count
        engine.resolve()
        async with on.request(other, decoding) as transcription:
            assert texts((await transcription.result()).segments) == numbered(4)


async def test_closing_waits_until_the_source_is_no_longer_read() -> None:
    media = GatedMedia()
    with flow(FakeEngine(), media=media) as on, upload(tone(60)) as source:
        async with on.request(source) as transcription:
            await asyncio.to_thread(media.at_gate.wait, DEADLINE_S)
            closing = asyncio.create_task(transcription.close())
            await peek()
            assert not closing.done()
            media.go.set()
            await closing
            assert media.recordings[0].finished.done()
            await eventually(lambda: media.spooled_bytes == 0)


def test_decoding_that_outlives_the_loop_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    media = GatedMedia()
    with flow(FakeEngine(), media=media) as on, upload(tone(2)) as source:

        async def leave() -> None:
            on.pipeline.transcribe(source, TranscriptionOptions(vad=VadOptions(enabled=False)))
            await asyncio.to_thread(media.at_gate.wait, DEADLINE_S)

        asyncio.run(leave())
        media.go.set()
    assert "Event loop is closed" not in caplog.text


async def test_closing_does_not_wait_for_the_files_of_others() -> None:
    media = GatedMedia()
    with flow(FakeEngine(), media=media) as on, upload(tone(5)) as one, upload(tone(5)) as other:
        async with on.request(one) as busy:
            await asyncio.to_thread(media.at_gate.wait, DEADLINE_S)
            async with on.request(other):
                pass
            media.go.set()
            assert (await busy.result()).duration_s == 5.0


async def test_closing_after_the_end_and_twice_does_nothing() -> None:
    with flow(FakeEngine()) as on, upload(tone(2)) as source:
        async with on.request(source) as transcription:
            transcript = await transcription.result()
            await transcription.close()
            await transcription.close()
            assert transcription.duration_s == transcript.duration_s == 2.0


async def test_who_stops_iterating_leaves_nothing_behind() -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload(tone(20)) as source:
        async with on.request(source) as transcription:
            async for _ in transcription:
                break
        assert engine.waiting == []


async def test_windows_that_run_in_a_real_engine_end_unheard_after_a_cancel() -> None:
    model = FakeModel()
    model.hold()
    with flow(Engine(model, BatchLimits())) as on, upload(tone(20)) as source, upload(tone(1.5)) as other:
        async with on.request(source) as transcription:
            await asyncio.to_thread(wait_until, lambda: model.inside == 1)
            transcription.cancel()
            with pytest.raises(Cancelled):
                await transcription.result()
        model.release()
        async with on.request(other) as after:
            assert texts((await after.result()).segments) == numbered(2)
    assert sum(len(batch) for batch in model.batches) <= 4 + 2


# Models that are not loaded yet


@contextmanager
def unloaded(engines: Engines) -> Iterator[tuple[Flow, ModelSlot]]:
    """Over a model that is loaded when it is asked for."""
    media = make_media()
    pool = ModelPool(engines.start, Budget(lambda _: Need(0, 0)))
    pool.set_models([KnownModel(("demo",), Path("/nonexistent"), window_s=1.0)], FOREVER)
    try:
        yield Flow(Pipeline(media, Registry(pool)), media), pool.slots[0]
    finally:
        engines.load.set()
        media.close()
        pool.close()
    assert media.spooled_bytes == 0


async def test_a_model_is_loaded_for_a_request_while_its_file_is_decoded() -> None:
    engines = Engines()
    engines.load.clear()
    with unloaded(engines) as (on, slot), upload(tone(2.5)) as source:
        async with on.request(source) as transcription:
            await eventually(lambda: slot.starting is not None and transcription.audio_s == 2.5)
            assert transcription.duration_hint_s == 2.5
            assert (transcription.queue_position, slot.leases) == (0, 1)
            engines.load.set()
            assert texts((await transcription.result()).segments) == numbered(3)
        assert slot.leases == 0


async def test_a_client_that_leaves_while_the_model_is_loaded_frees_its_place_and_the_load_goes_on() -> None:
    engines = Engines()
    engines.load.clear()
    with unloaded(engines) as (on, slot), upload(tone(2.5)) as source:
        transcription = on.pipeline.transcribe(source, TranscriptionOptions())
        await eventually(lambda: slot.starting is not None)
        async with asyncio.timeout(DEADLINE_S):
            await transcription.close()
        await eventually(lambda: (slot.leases, on.media.spooled_bytes) == (0, 0))
        assert slot.loading
        engines.load.set()
        await eventually(lambda: slot.served is not None)


async def test_a_model_that_can_not_be_loaded_ends_the_request() -> None:
    engines = Engines()
    engines.fails = "cut off"
    with unloaded(engines) as (on, slot), upload(tone(2.5)) as source:
        async with on.request(source) as transcription:
            with pytest.raises(ModelBroken, match="'demo' can't be loaded: cut off"):
                await transcription.result()
        assert slot.leases == 0


async def test_a_broken_file_needs_no_model() -> None:
    engines = Engines()
    engines.load.clear()
    with unloaded(engines) as (on, slot), upload(b"no audio at all") as source:
        transcription = on.pipeline.transcribe(source, TranscriptionOptions())
        with pytest.raises(UndecodableAudio):
            await transcription.result()
        await transcription.close()
        assert slot.leases == 0


async def test_a_language_that_the_model_turns_out_not_to_know_is_refused() -> None:
    with unloaded(Engines()) as (on, slot), upload(tone(0.5)) as source:
        async with on.request(source, DecodingOptions(language="de")) as transcription:
            with pytest.raises(UnknownLanguage, match="'de'"):
                await transcription.result()
        assert slot.leases == 0


async def test_a_request_s_keep_alive_holds_for_the_model() -> None:
    engines = Engines()
    with unloaded(engines) as (on, slot), upload(tone(0.5)) as source:
        transcription = on.pipeline.transcribe(source, TranscriptionOptions(keep_alive_s=0.0))
        await transcription.result()
        await transcription.close()
        await eventually(lambda: slot.served is None and slot.ending is None)
