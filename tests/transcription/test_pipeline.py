"""A transcription as its caller holds it: progress, cancel and close, models that are not loaded yet."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from server.audio.media_decoder import MediaDecoder, Recording
from server.audio.scanner import Scanner
from server.errors import (
    Cancelled,
    ModelBroken,
    ModelNotFound,
    Unavailable,
    UndecodableAudio,
)
from server.options import DecodingOptions, TranscriptionOptions, UploadFd, VadOptions
from server.transcript import Window, WindowResult
from tests.support.fakes import (
    DEADLINE_S,
    FakeEngine,
    default_answer,
    eventually,
    peek,
    tone,
    upload,
)
from tests.support.flow import ENGLISH, flow, numbered, texts, unloaded
from tests.support.launches import Engines

pytestmark = pytest.mark.anyio


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


async def test_duration_and_progress_are_known_in_time() -> None:
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


async def test_the_queue_position_is_zero_after_the_first_result() -> None:
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


async def test_an_unknown_model_is_refused_at_once() -> None:
    with flow(FakeEngine()) as on, upload(tone(1)) as source:
        with pytest.raises(ModelNotFound, match="other"):
            on.pipeline.transcribe(source, TranscriptionOptions(model="other"))
        assert on.media.spooled_bytes == 0


async def test_cancelling_frees_everything_and_ends_the_iteration() -> None:
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
async def test_a_request_cancelled_again_while_it_ends_frees_everything(later: int) -> None:
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


def test_decoding_that_outlives_the_loop_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
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


async def test_an_abandoned_iteration_leaves_nothing_behind() -> None:
    engine = FakeEngine()
    with flow(engine) as on, upload(tone(20)) as source:
        async with on.request(source) as transcription:
            async for _ in transcription:
                break
        assert engine.waiting == []


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


async def test_a_disconnect_during_a_load_frees_the_lease_and_the_load_continues() -> None:
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


async def test_a_requests_keep_alive_applies_to_the_model() -> None:
    engines = Engines()
    with unloaded(engines) as (on, slot), upload(tone(0.5)) as source:
        transcription = on.pipeline.transcribe(source, TranscriptionOptions(keep_alive_s=0.0))
        await transcription.result()
        await transcription.close()
        await eventually(lambda: slot.served is None and slot.ending is None)
