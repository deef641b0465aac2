"""The work of one request: decodes its file, has its windows transcribed and collects the segments in order.

`execute` tells the story. Windows arrive as fast as the file decodes; their results are emitted in order.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from server.audio.loudness import Frames, loud_frames
from server.audio.media_decoder import MediaDecoder, Recording
from server.errors import Cancelled, RequestTimeout
from server.options import DecodingOptions, TranscriptionOptions, UploadFd
from server.pool.pool import ModelLease
from server.transcript import SAMPLE_RATE, Segment, Window
from server.transcription.language import LANGUAGE_WINDOWS, UNKNOWN_LANGUAGE, check_language, is_certain, vote
from server.transcription.sequential import in_sequence
from server.transcription.timeline import Timeline
from server.transcription.window_capacity import WindowCapacity
from server.transcription.window_transcriber import WindowTask, WindowTranscriber
from server.transcription.word_times import with_spoken_times


@dataclass(frozen=True, slots=True)
class SegmentGroup:
    """Segments that are emitted together: those of one window, and the time in s up to which the file is done."""

    segments: tuple[Segment, ...]
    done_s: float


class TranscriptionRun:
    """Starts to decode the file at once; `execute` does the rest, and must be called once.

    Its attributes are the progress so far. `groups` gets the segments of each window in turn, None at the end.
    """

    def __init__(
        self,
        media: MediaDecoder,
        lease: ModelLease,
        source: UploadFd,
        options: TranscriptionOptions,
        capacity: WindowCapacity,
        client: str = "",
    ) -> None:
        """`capacity` bounds the windows of all requests that are with the engines. Takes over `lease`."""
        self.id = uuid.uuid4().hex
        self.language = options.decoding.language or UNKNOWN_LANGUAGE
        self.language_probability: float | None = None
        self.prompt_tokens = 0
        self.segments: list[Segment] = []
        self.groups: asyncio.Queue[SegmentGroup | None] = asyncio.Queue()
        self.done_s = 0.0
        self.duration_s: float | None = None
        self._lease = lease
        self._options = options
        self._capacity = capacity
        self._client = client
        self._decoded: asyncio.Queue[Window | None] = asyncio.Queue()
        self._ordered: asyncio.Queue[WindowTask | None] = asyncio.Queue()
        self._transcriber: WindowTranscriber | None = None  # once the model is loaded
        self._ready_s: float | None = None  # when its first window was ready, on the loop's clock
        self._ended_s: float | None = None
        self.recording = self._open(media, source)

    @property
    def has_begun(self) -> bool:
        """True once the model has transcribed a window."""
        return self._begun_s is not None

    @property
    def wait_s(self) -> float | None:
        """Seconds that the first window waited for the model; None until its result is there."""
        begun_s = self._begun_s
        return None if begun_s is None else max(0.0, begun_s - (self._ready_s or begun_s))

    @property
    def run_s(self) -> float | None:
        """Seconds since the model began with the first window, until now or the end; None before."""
        return None if self._begun_s is None else (self._ended_s or _now_s()) - self._begun_s

    async def execute(self, deadline: float | None) -> float:
        """Decode, feed the engine and collect results until all are done or one fails; returns the duration, s.

        Raises `RequestTimeout` at `deadline`, and `Cancelled` if its task is cancelled.
        """
        decoding = asyncio.wrap_future(self.recording.finished)
        feeding = asyncio.create_task(self._feed())
        parts: list[asyncio.Future[Any]] = [decoding, feeding, asyncio.create_task(self._collect())]
        try:
            async with asyncio.timeout_at(deadline):
                done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)
            for part in done:
                part.result()
            self.duration_s = self.done_s = decoding.result()
            return self.duration_s
        except TimeoutError:
            raise RequestTimeout from None
        except asyncio.CancelledError:
            raise Cancelled("The request was cancelled.") from None
        finally:
            self._ended_s = _now_s()
            for part in parts:
                part.cancel()
            if self._transcriber:
                parts += self._transcriber.cancel()
            self.recording.close()
            self._lease.release()
            self.groups.put_nowait(None)
            await asyncio.gather(*parts, return_exceptions=True)  # may be cancelled: nothing follows

    @property
    def _begun_s(self) -> float | None:
        return self._transcriber.begun_s if self._transcriber else None

    def _open(self, media: MediaDecoder, source: UploadFd) -> Recording:
        """Start decoding; windows, then None, are passed to this loop."""
        loop = asyncio.get_running_loop()

        def pass_on(window: Window | None) -> None:
            with suppress(RuntimeError):  # a shutdown that no longer waited has closed the loop
                loop.call_soon_threadsafe(self._on_window, window)

        vad = replace(self._options.vad, window_s=self._lease.known.window_s)
        mels = self._lease.known.mels if self._options.decoding.condition_on_previous_text else 0
        recording = media.open(source, vad, on_window=pass_on, mels=mels, client=self._client)
        recording.finished.add_done_callback(lambda _: pass_on(None))
        return recording

    def _on_window(self, window: Window | None) -> None:
        self._ready_s = self._ready_s or _now_s()
        self._decoded.put_nowait(window)

    async def _feed(self) -> None:
        """Submit every window to the engine: in parallel as room allows, or each after the one before."""
        model = await self._lease.model()
        check_language(self._options.decoding, model)
        transcriber = WindowTranscriber(model, self.recording, self.id, self._capacity, self._client)
        self._transcriber = transcriber
        if self._options.decoding.condition_on_previous_text:
            await self._feed_in_sequence(transcriber)
        else:
            await self._feed_windows(transcriber)
        self._ordered.put_nowait(None)

    async def _feed_in_sequence(self, transcriber: WindowTranscriber) -> None:
        speech = [span async for window in self._windows() for span in window.spans]
        await asyncio.wrap_future(self.recording.finished)
        steps = in_sequence(speech, self._options.decoding, self.recording.mel_max)
        step = next(steps, None)
        while step:
            task = await transcriber.start(*step, once=True)
            self._ordered.put_nowait(task)
            ((_, result),) = await task
            try:
                step = steps.send(result)
            except StopIteration:
                break

    async def _feed_windows(self, transcriber: WindowTranscriber) -> None:
        windows = self._windows()
        decoding = self._options.decoding
        if decoding.language is None and not decoding.multilingual:
            decoding = await self._settle_language(transcriber, windows)
        async for window in windows:
            task = await transcriber.start(window, decoding)
            self._ordered.put_nowait(task)
            if self._options.stream and window.index == 0:
                await asyncio.wait([task])  # not in a batch with the others, which would take longer

    async def _windows(self) -> AsyncIterator[Window]:
        while (window := await self._decoded.get()) is not None:
            if window.index == 0:
                self.groups.put_nowait(SegmentGroup((), 0.0))
            yield window

    async def _settle_language(
        self, transcriber: WindowTranscriber, windows: AsyncIterator[Window]
    ) -> DecodingOptions:
        """Decide the file's language by its first windows; redo those transcribed in another one."""
        tasks: list[WindowTask] = []
        async for window in windows:
            tasks.append(await transcriber.start(window, self._options.decoding))
            # In parallel, since workers would idle during the first window; unless a stream waits for its result.
            alone = self._options.stream and is_certain((await tasks[-1])[0][1])
            if alone or len(tasks) == LANGUAGE_WINDOWS:
                break
        results = [(await task)[0] for task in tasks]
        self.language, self.language_probability = vote([result for _, result in results])
        decoding = replace(self._options.decoding, language=self.language)
        for task, (window, result) in zip(tasks, results, strict=True):
            right = result.language == self.language
            self._ordered.put_nowait(task if right else await transcriber.start(window, decoding))
        return decoding

    async def _collect(self) -> None:
        """Take results in order and emit their segments."""
        timeline = Timeline()
        while (task := await self._ordered.get()) is not None:
            segments: list[Segment] = []
            for window, result in await task:
                if self.language_probability is None and result.language_probs:
                    self.language, self.language_probability = result.language_probs[0]
                # Only once: the first window has all of the prompt, later ones may have previous text instead.
                self.prompt_tokens = self.prompt_tokens or result.prompt_tokens
                if result.segments:
                    result = with_spoken_times(
                        result, await asyncio.to_thread(self._loud_frames, window), self._lease.known.word_shift_s
                    )
                segments += timeline.place(window, result)
                self.done_s = window.end / SAMPLE_RATE
            self.segments += segments
            self.groups.put_nowait(SegmentGroup(tuple(segments), self.done_s))

    def _loud_frames(self, window: Window) -> Frames:
        return loud_frames(self.recording.load(window))


def _now_s() -> float:
    return asyncio.get_running_loop().time()
