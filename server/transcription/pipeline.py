"""The lifecycle of a request: an upload in, its segments out, in order and in file time.

Read this file first: it holds what callers see. `run` does the work: windows come from `media` as fast as a
file decodes, and `window_transcriber` keeps a bounded number of them with the engine. Knows asyncio; no HTTP, no
tensors.
"""

import asyncio
from collections.abc import AsyncIterator

from server.audio.media_decoder import MediaDecoder
from server.options import TranscriptionOptions, UploadFd
from server.pool.pool import ModelLease
from server.pool.registry import Registry
from server.transcript import Segment, Transcript
from server.transcription.language import check_language
from server.transcription.run import SegmentGroup, TranscriptionRun
from server.transcription.window_capacity import WindowCapacity


class Pipeline:
    """Transcribes files with the models of a registry. Its creator closes the parts it is built from."""

    def __init__(self, media: MediaDecoder, registry: Registry, *, max_windows: int = 512) -> None:
        """At most `max_windows` windows of all long recordings together are with the engines."""
        self.registry = registry
        self._media = media
        self._capacity = WindowCapacity(max_windows)

    def transcribe(
        self, source: UploadFd, options: TranscriptionOptions, *, deadline: float | None = None, client: str = ""
    ) -> "Transcription":
        """Start transcribing `source`, which must stay open until the transcription is closed.

        Clients take turns at decoding. At `deadline`, on the loop's clock, it ends with `RequestTimeout`. Raises
        `ModelNotFound` at once, and if the model is loaded `UnknownLanguage`; errors of the model and the file are
        raised while iterating.
        """
        slot = self.registry.find(options.model)
        if slot.served:
            check_language(options.decoding, slot.served)
        lease = self.registry.lease(slot, options.keep_alive_s)
        try:
            run = TranscriptionRun(self._media, lease, source, options, self._capacity, client)
        except BaseException:  # out of storage or threads
            lease.release()
            raise
        return Transcription(run, lease, options, deadline)


class Transcription:
    """One request in progress: iterate for its segments, and get the whole from `result`. Always close it.

    The file is decoded while the model loads, if it must.
    """

    def __init__(
        self, run: TranscriptionRun, lease: ModelLease, options: TranscriptionOptions, deadline: float | None
    ) -> None:
        self._run = run
        self._lease = lease
        self._options = options
        self._task = asyncio.create_task(run.execute(deadline))

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def model(self) -> str:
        """The name of the model that transcribes it."""
        return self._lease.known.name

    @property
    def prompt(self) -> str:
        return self._options.decoding.prompt

    @property
    def prompt_tokens(self) -> int:
        """The caller's own, known with the first segment; 0 if there was no speech."""
        return self._run.prompt_tokens

    @property
    def language(self) -> str:
        """Set before the first segment, as its probability is."""
        return self._run.language

    @property
    def language_probability(self) -> float | None:
        return self._run.language_probability

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(segment.text for segment in self._run.segments).strip()

    @property
    def is_audio(self) -> bool:
        """True once any audio could be decoded."""
        return self._run.recording.spool.samples > 0

    @property
    def duration_hint_s(self) -> float | None:
        """The claim of the file's header, available once it is open."""
        return self._run.recording.duration_hint_s

    @property
    def duration_s(self) -> float | None:
        """Set after the last segment."""
        return self._run.duration_s

    @property
    def audio_s(self) -> float:
        """Seconds of audio decoded so far."""
        return self._run.recording.decoded_s

    @property
    def done_s(self) -> float:
        """The time in the file that the segments have reached."""
        return self._run.done_s

    @property
    def knows_length(self) -> bool:
        """True once the file's header has claimed its length, or it is decoded."""
        return self.duration_hint_s is not None or self._run.recording.finished.done() or self._task.done()

    @property
    def left_s(self) -> float:
        """Seconds of audio still to be transcribed: by the header's claim, until the duration is counted."""
        return 0.0 if self._task.done() else max(0.0, self._run.recording.known_s - self.done_s)

    @property
    def wait_s(self) -> float | None:
        """How long its first window waited for the model, known with its result."""
        return self._run.wait_s

    @property
    def run_s(self) -> float | None:
        """Seconds since the model began with it, until now or until it ended; None before."""
        return self._run.run_s

    @property
    def queue_position(self) -> int:
        """Number of requests that the model takes before it begins with this one; then 0: they take turns."""
        served = self._lease.served
        return 0 if self._run.has_begun or served is None else served.engine.position(self.id)

    async def segment_groups(self) -> AsyncIterator[SegmentGroup]:
        """Yield the segments of each window, once it and all windows before it are done.

        An empty group comes first, as soon as speech is found: the file is valid audio.
        """
        while (group := await self._run.groups.get()) is not None:
            yield group
        await asyncio.shield(self._task)  # raises the error that ended it

    async def __aiter__(self) -> AsyncIterator[Segment]:
        async for group in self.segment_groups():
            for segment in group.segments:
                yield segment

    async def result(self) -> Transcript:
        """The finished transcription, even if its segments were consumed by an iteration."""
        duration_s = await asyncio.shield(self._task)
        return Transcript(
            task=self._options.decoding.task,
            language=self.language,
            language_probability=self.language_probability,
            duration_s=duration_s,
            segments=tuple(self._run.segments),
            prompt_tokens=self.prompt_tokens,
        )

    def cancel(self) -> None:
        """Cancel it: windows in the engine's queue are dropped, decoding stops at the next block."""
        # Deferred: a task that is cancelled before its first step never reaches its `finally`.
        asyncio.get_running_loop().call_soon(self._task.cancel)

    async def close(self) -> None:
        """Cancel the remaining work, and return once the source is no longer read."""
        self.cancel()
        decoded = asyncio.wrap_future(self._run.recording.finished)
        await asyncio.gather(self._task, decoded, return_exceptions=True)
