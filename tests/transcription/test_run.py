"""The work of a request: the order of segments, the windows of streams, errors."""

import asyncio
import gc
from dataclasses import replace

import pytest

from server.engine.engine import Engine
from server.engine.limits import BatchLimits
from server.errors import (
    AudioTooLong,
    Unavailable,
    UndecodableAudio,
)
from server.options import DecodingOptions
from server.transcript import SAMPLE_RATE, Window
from server.transcription.run import SegmentGroup
from tests.support.bad_inputs import silence
from tests.support.fakes import (
    FakeEngine,
    FakeModel,
    Outcome,
    eventually,
    make_result,
    peek,
    tone,
    upload,
)
from tests.support.flow import DETECT, ENGLISH, failing_at, flow, numbered, texts

pytestmark = pytest.mark.anyio


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


async def test_segment_groups_follow_windows_after_an_empty_first_one() -> None:
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


async def test_a_file_without_speech_has_no_segment_groups() -> None:
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


@pytest.mark.parametrize("decoding", [DETECT, ENGLISH, replace(DETECT, multilingual=True)])
async def test_a_file_without_speech_does_not_reach_the_engine(decoding: DecodingOptions) -> None:
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


async def test_an_engine_error_ends_the_request_and_drops_its_windows() -> None:
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


async def test_if_all_windows_fail_there_is_one_error_and_no_log_noise() -> None:
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


async def test_audio_that_is_too_long_fails_even_while_the_engine_is_stuck() -> None:
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
            with pytest.raises(Unavailable, match="no space left"):
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
