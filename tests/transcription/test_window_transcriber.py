"""Windows with the engine: how many, with which samples, and the rest that a model leaves."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from server.engine.engine import Engine
from server.engine.limits import BatchLimits
from server.errors import (
    Cancelled,
)
from server.options import DecodingOptions
from server.transcript import SAMPLE_RATE, Window
from tests.support.fakes import (
    Answer,
    FakeEngine,
    FakeModel,
    Outcome,
    Samples,
    eventually,
    make_result,
    peek,
    tone,
    upload,
    wait_until,
)
from tests.support.flow import DETECT, ENGLISH, flow, numbered, texts

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize(("duration_s", "priority"), [(59, "interactive"), (61, "bulk")])
async def test_short_files_go_first(duration_s: float, priority: str) -> None:
    engine = FakeEngine()
    with flow(engine, window_s=30) as on, upload(tone(duration_s)) as source:
        async with on.request(source) as transcription:
            await transcription.result()
    assert {submission.priority for submission in engine.submissions} == {priority}
    assert {submission.request for submission in engine.submissions} == {transcription.id}


def stopping_after(samples: int) -> Answer:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        return make_result(window, f" at{window.offset}", consumed=min(samples, window.length))

    return answer


async def test_the_rest_of_a_window_is_submitted_again() -> None:
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


async def test_the_rest_of_a_window_is_transcribed_in_its_language() -> None:
    def answer(window: Window, options: DecodingOptions) -> Outcome:
        probs = () if options.language else (("es", 0.9),)
        return make_result(window, " hm", language=options.language or "es", probs=probs, consumed=8_000)

    engine = FakeEngine(answer)
    with flow(engine) as on, upload(tone(0.95)) as source:
        async with on.request(source, replace(DETECT, multilingual=True)) as transcription:
            await transcription.result()
    assert [submission.options.language for submission in engine.submissions] == [None, "es"]


@pytest.mark.parametrize(("left", "submissions"), [(6_400, 1), (6_401, 2)])
async def test_a_rest_too_short_for_a_word_is_skipped(left: int, submissions: int) -> None:
    engine = FakeEngine(stopping_after(15_000 - left))
    with flow(engine) as on, upload(tone(15_000 / SAMPLE_RATE)) as source:
        async with on.request(source) as transcription:
            await transcription.result()
    assert len([each for each in engine.submissions if each.window.length >= left]) == submissions


@pytest.mark.parametrize("consumed", [0, -1])
async def test_a_window_that_was_not_consumed_at_all_is_not_resubmitted(consumed: int) -> None:
    engine = FakeEngine(stopping_after(consumed))
    with flow(engine) as on, upload(tone(2.5)) as source:
        async with on.request(source) as transcription:
            transcript = await transcription.result()
    assert len(engine.submissions) == len(transcript.segments) == 3


@pytest.mark.parametrize("decoding", [DETECT, ENGLISH])
async def test_cancelled_requests_return_their_capacity(decoding: DecodingOptions) -> None:
    engine = FakeEngine(held=True)
    with flow(engine, max_windows=2) as on, upload(tone(20)) as source, upload(tone(3.5)) as other:
        for count in range(1, 4):
            async with on.request(source, decoding):
                await eventually(lambda: bool(engine.waiting))
            assert len(engine.cancelled) == count
        engine.resolve()
        async with on.request(other, decoding) as transcription:
            assert texts((await transcription.result()).segments) == numbered(4)


async def test_running_windows_of_a_real_engine_are_dropped_after_a_cancel() -> None:
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
