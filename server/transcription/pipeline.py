"""The lifecycle of a request: an upload in, its segments out, in order and in file time.

Read this file first. Windows come from `media` as fast as a file decodes; a bounded number of them is with
the engine at any time; their results are returned in order. Knows asyncio; no HTTP, no tensors.
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
from server.options import INTERACTIVE_S, DecodingOptions, TranscriptionOptions, UploadFd
from server.pool.pool import ModelLease
from server.pool.registry import Registry
from server.pool.served_model import ServedModel
from server.transcript import SAMPLE_RATE, Segment, Transcript, Window, WindowResult
from server.transcription.language import LANGUAGE_WINDOWS, UNKNOWN_LANGUAGE, check_language, is_certain, vote
from server.transcription.sequential import in_sequence
from server.transcription.timeline import Timeline
from server.transcription.word_times import with_spoken_times

MIN_REST_S = 0.4  # as long as the padding after speech: anything shorter contains none
MAX_RESTS = 20  # per window: a model that stops every second is repeating itself

# The results of one window: for itself, and for its rest where the model stopped inside it.
Heard = list[tuple[Window, WindowResult]]


@dataclass(frozen=True, slots=True)
class SegmentGroup:
    """Segments that are emitted together: those of one window, and the time in s up to which the file is done."""

    segments: tuple[Segment, ...]
    done_s: float


class Pipeline:
    """Transcribes files with the models of a registry. Its creator closes the parts it is built from."""

    def __init__(self, media: MediaDecoder, registry: Registry, *, max_windows: int = 512) -> None:
        """At most `max_windows` windows of all requests together are with the engines."""
        self.registry = registry
        self._media = media
        self._room = asyncio.Semaphore(max_windows)

    def transcribe(
        self, source: UploadFd, options: TranscriptionOptions, *, deadline: float | None = None
    ) -> "Transcription":
        """Start transcribing `source`, which must stay open until the transcription is closed.

        At `deadline`, on the loop's clock, it ends with `RequestTimeout`. Raises `ModelNotFound` at once, and if
        the model is loaded `UnknownLanguage`; errors of the model and the file are raised while iterating.
        """
        slot = self.registry.find(options.model)
        if slot.served:
            check_language(options.decoding, slot.served)
        lease = self.registry.lease(slot, options.keep_alive_s)
        try:
            return Transcription(self._media, lease, source, options, self._room, deadline)
        except BaseException:  # out of storage or threads
            lease.release()
            raise


class Transcription:
    """One request in progress: iterate for its segments, and get the whole from `result`. Always close it.

    `language` is set before the first segment, `duration_s` after the last; `duration_hint_s` is the claim of the
    file's header, available once it is open. `done_s` is the time that the segments have reached. `prompt_tokens`
    are the caller's own, known with the first segment; 0 if there was no speech. `wait_s` is how long its first
    window waited for the model, known with its result. The file is decoded while the model loads, if it must.
    """

    _model: ServedModel  # both set once it is loaded
    _own_room: asyncio.Semaphore

    def __init__(
        self,
        media: MediaDecoder,
        lease: ModelLease,
        source: UploadFd,
        options: TranscriptionOptions,
        room: asyncio.Semaphore,
        deadline: float | None,
    ) -> None:
        self.id = uuid.uuid4().hex
        self.language = options.decoding.language or UNKNOWN_LANGUAGE
        self.language_probability: float | None = None
        self.duration_s: float | None = None
        self.prompt_tokens = 0
        self.done_s = 0.0
        self.wait_s: float | None = None
        self._lease = lease
        self._options = options
        self._room = room
        self._deadline = deadline
        self._arrivals: asyncio.Queue[Window | None] = asyncio.Queue()
        self._ordered: asyncio.Queue[asyncio.Task[Heard] | None] = asyncio.Queue()
        self._passages: asyncio.Queue[SegmentGroup | None] = asyncio.Queue()
        self._segments: list[Segment] = []
        self._asked_s: float | None = None  # when its first window was ready, on the loop's clock
        self._begun_s: float | None = None
        self._ended_s: float | None = None
        self._tasks: set[asyncio.Task[Heard]] = set()
        self._recording = self._open(media, source)
        self._run = asyncio.create_task(self._whole())

    @property
    def duration_hint_s(self) -> float | None:
        return self._recording.duration_hint_s

    @property
    def model(self) -> str:
        """The name of the model that transcribes it."""
        return self._lease.known.name

    @property
    def prompt(self) -> str:
        return self._options.decoding.prompt

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(segment.text for segment in self._segments).strip()

    @property
    def audio_s(self) -> float:
        """Seconds of audio decoded so far."""
        return self._recording.decoded_s

    @property
    def run_s(self) -> float | None:
        """Seconds since the model began with it, until now or until it ended; None before."""
        return None if self._begun_s is None else (self._ended_s or _now_s()) - self._begun_s

    @property
    def is_audio(self) -> bool:
        """True once any audio could be decoded."""
        return self._recording.spool.samples > 0

    @property
    def left_s(self) -> float:
        """Seconds of audio still to be transcribed: by the header's claim, until the duration is counted."""
        return 0.0 if self._run.done() else max(0.0, self._recording.known_s - self.done_s)

    @property
    def queue_position(self) -> int:
        """Number of requests that the model takes before it begins with this one; then 0: they take turns."""
        served = self._lease.served
        return 0 if self._begun_s is not None or served is None else served.engine.position(self.id)

    async def passages(self) -> AsyncIterator[SegmentGroup]:
        """Yield the segments of each window, once it and all windows before it are done.

        An empty group comes first, as soon as speech is found: the file is valid audio.
        """
        while (passage := await self._passages.get()) is not None:
            yield passage
        await asyncio.shield(self._run)  # raises the error that ended it

    async def __aiter__(self) -> AsyncIterator[Segment]:
        async for passage in self.passages():
            for segment in passage.segments:
                yield segment

    async def result(self) -> Transcript:
        """The finished transcription, even if its segments were consumed by an iteration."""
        duration_s = await asyncio.shield(self._run)
        return Transcript(
            task=self._options.decoding.task,
            language=self.language,
            language_probability=self.language_probability,
            duration_s=duration_s,
            segments=tuple(self._segments),
            prompt_tokens=self.prompt_tokens,
        )

    def cancel(self) -> None:
        """Cancel it: windows in the engine's queue are dropped, decoding stops at the next block."""
        # Deferred: a task that is cancelled before its first step never reaches its `finally`.
        asyncio.get_running_loop().call_soon(self._run.cancel)

    async def close(self) -> None:
        """Cancel the remaining work, and return once the source is no longer read."""
        self.cancel()
        decoded = asyncio.wrap_future(self._recording.finished)
        await asyncio.gather(self._run, decoded, return_exceptions=True)

    def _open(self, media: MediaDecoder, source: UploadFd) -> Recording:
        """Start decoding; windows, then None, are passed to this loop."""
        loop = asyncio.get_running_loop()

        def arrive(window: Window | None) -> None:
            with suppress(RuntimeError):  # a shutdown that no longer waited has closed the loop
                loop.call_soon_threadsafe(self._arrive, window)

        vad = replace(self._options.vad, window_s=self._lease.known.window_s)
        mels = self._lease.known.mels if self._options.decoding.condition_on_previous_text else 0
        recording = media.open(source, vad, on_window=arrive, mels=mels)
        recording.finished.add_done_callback(lambda _: arrive(None))
        return recording

    def _arrive(self, window: Window | None) -> None:
        self._asked_s = self._asked_s or _now_s()
        self._arrivals.put_nowait(window)

    async def _whole(self) -> float:
        """Decode, feed the engine and collect results until all are done or one fails; returns the duration, s."""
        decoding = asyncio.wrap_future(self._recording.finished)
        parts: list[asyncio.Future[Any]] = [
            decoding,
            asyncio.create_task(self._feed()),
            asyncio.create_task(self._collect()),
        ]
        try:
            async with asyncio.timeout_at(self._deadline):
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
            left: list[asyncio.Future[Any]] = [*parts, *self._tasks]
            for each in left:
                each.cancel()
            if self._lease.served:
                self._lease.served.engine.cancel(self.id)
            self._recording.close()
            self._lease.release()
            self._passages.put_nowait(None)
            await asyncio.gather(*left, return_exceptions=True)  # may be cancelled: nothing follows

    async def _feed(self) -> None:
        """Submit every window to the engine: in parallel as room allows, or each after the one before."""
        self._model = await self._lease.model()
        check_language(self._options.decoding, self._model)
        self._own_room = asyncio.Semaphore(2 * self._model.engine.max_batch)
        if self._options.decoding.condition_on_previous_text:
            await self._feed_in_sequence()
        else:
            await self._feed_windows()
        self._ordered.put_nowait(None)

    async def _feed_in_sequence(self) -> None:
        speech = [span async for window in self._windows() for span in window.spans]
        await asyncio.wrap_future(self._recording.finished)
        steps = in_sequence(speech, self._options.decoding, self._recording.mel_max)
        asked = next(steps, None)
        while asked:
            task = await self._start(*asked, once=True)
            self._ordered.put_nowait(task)
            ((_, result),) = await task
            try:
                asked = steps.send(result)
            except StopIteration:
                break

    async def _feed_windows(self) -> None:
        windows = self._windows()
        decoding = self._options.decoding
        if decoding.language is None and not decoding.multilingual:
            decoding = await self._settle_language(windows)
        async for window in windows:
            task = await self._start(window, decoding)
            self._ordered.put_nowait(task)
            if self._options.stream and window.index == 0:
                await asyncio.wait([task])  # not in a batch with the others, which would take longer

    async def _windows(self) -> AsyncIterator[Window]:
        while (window := await self._arrivals.get()) is not None:
            if window.index == 0:
                self._passages.put_nowait(SegmentGroup((), 0.0))
            yield window

    async def _settle_language(self, windows: AsyncIterator[Window]) -> DecodingOptions:
        """Decide the file's language by its first windows; redo those transcribed in another one."""
        heard: list[asyncio.Task[Heard]] = []
        async for window in windows:
            heard.append(await self._start(window, self._options.decoding))
            # In parallel, since workers would idle during the first window; unless a stream waits for its result.
            alone = self._options.stream and is_certain((await heard[-1])[0][1])
            if alone or len(heard) == LANGUAGE_WINDOWS:
                break
        results = [(await task)[0] for task in heard]
        self.language, self.language_probability = vote([result for _, result in results])
        decoding = replace(self._options.decoding, language=self.language)
        for task, (window, result) in zip(heard, results, strict=True):
            right = result.language == self.language
            self._ordered.put_nowait(task if right else await self._start(window, decoding))
        return decoding

    async def _start(self, window: Window, decoding: DecodingOptions, *, once: bool = False) -> asyncio.Task[Heard]:
        """Transcribe `window` in a task, once there is room; `once`: without the rest that the model left."""
        await self._own_room.acquire()
        task = asyncio.create_task(self._hear(window, decoding, once=once))
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Heard]) -> None:
        self._tasks.discard(task)
        self._own_room.release()
        if not task.cancelled():
            task.exception()  # mark as retrieved: of many errors one is reported, and asyncio must not log the rest

    async def _hear(self, window: Window, decoding: DecodingOptions, *, once: bool) -> Heard:
        """The model's results for `window`: if it stops inside, the rest is submitted again."""
        heard: Heard = []
        rest: Window | None = window
        while rest and len(heard) <= MAX_RESTS:
            result = await self._submit(rest, decoding)
            heard.append((rest, result))
            decoding = replace(decoding, language=result.language)
            rest = None if once else _rest(rest, result)
        return heard

    async def _submit(self, window: Window, decoding: DecodingOptions) -> WindowResult:
        async with self._room:
            loaded = await asyncio.to_thread(self._recording.load, window)
            hint_s = self.duration_hint_s
            short = hint_s is not None and hint_s <= INTERACTIVE_S and window.start_s < INTERACTIVE_S
            future = self._model.engine.submit(
                loaded, decoding, request=self.id, priority="interactive" if short else "bulk"
            )
            result = await asyncio.wrap_future(future)
            if self._begun_s is None:
                self._begun_s = _now_s() - result.ran_s
                self.wait_s = max(0.0, self._begun_s - (self._asked_s or self._begun_s))
            return result

    async def _collect(self) -> None:
        """Take results in order and emit their segments."""
        placer = Timeline()
        while (task := await self._ordered.get()) is not None:
            segments: list[Segment] = []
            for window, result in await task:
                if self.language_probability is None and result.language_probs:
                    self.language, self.language_probability = result.language_probs[0]
                # Only once: the first window has all of the prompt, later ones may have previous text instead.
                self.prompt_tokens = self.prompt_tokens or result.prompt_tokens
                if result.segments:
                    result = with_spoken_times(result, await asyncio.to_thread(self._loud_frames, window))
                segments += placer.place(window, result)
                self.done_s = window.end / SAMPLE_RATE
            self._segments += segments
            self._passages.put_nowait(SegmentGroup(tuple(segments), self.done_s))

    def _loud_frames(self, window: Window) -> Frames:
        return loud_frames(self._recording.load(window))


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _rest(window: Window, result: WindowResult) -> Window | None:
    """The part of `window` that the model has not transcribed, if it is long enough to contain speech."""
    left = window.length - result.consumed
    if result.consumed <= 0 or left <= MIN_REST_S * SAMPLE_RATE:
        return None
    return window.after(result.consumed)
