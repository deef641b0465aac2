"""Windows of one request, transcribed by the engine: a task for each, a bounded number at a time.

If the model stops inside a window, the rest of it is submitted again. Knows nothing of the order of windows.
"""

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from server.audio.media_decoder import Recording
from server.options import INTERACTIVE_S, DecodingOptions
from server.pool.served_model import ServedModel
from server.transcript import SAMPLE_RATE, Window, WindowResult
from server.transcription.window_capacity import WindowCapacity

MIN_REST_S = 0.4  # as long as the padding after speech: anything shorter contains none
MAX_RESTS = 20  # per window: a model that stops every second is repeating itself

# The results of one window: its own, and those of its rest where the model stopped inside it.
WindowResults = list[tuple[Window, WindowResult]]
WindowTask = asyncio.Task[WindowResults]


class WindowTranscriber:
    """Transcribes windows of `recording`. `begun_s` is when the model began, known with the first result."""

    def __init__(
        self, model: ServedModel, recording: Recording, request: str, capacity: WindowCapacity, client: str = ""
    ) -> None:
        """`capacity` is shared by the long recordings of all requests; a single one has two batches with the engine
        at most."""
        self.begun_s: float | None = None
        self._engine = model.engine
        self._recording = recording
        self._request = request
        self._client = client
        self._capacity = capacity
        self._own_capacity = asyncio.Semaphore(2 * model.engine.max_batch)
        self._tasks: set[WindowTask] = set()

    async def start(self, window: Window, decoding: DecodingOptions, *, once: bool = False) -> WindowTask:
        """Transcribe `window` in a task, once there is room; `once`: without the rest that the model left."""
        await self._own_capacity.acquire()
        task = asyncio.create_task(self._transcribe(window, decoding, once=once))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def cancel(self) -> list[asyncio.Future[Any]]:
        """Cancel all windows, also those in the engine's queue; returns the tasks that end now."""
        tasks: list[asyncio.Future[Any]] = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._engine.cancel(self._request)
        return tasks

    def _on_done(self, task: WindowTask) -> None:
        self._tasks.discard(task)
        self._own_capacity.release()
        if not task.cancelled():
            task.exception()  # mark as retrieved: of many errors one is reported, and asyncio must not log the rest

    async def _transcribe(self, window: Window, decoding: DecodingOptions, *, once: bool) -> WindowResults:
        results: WindowResults = []
        rest: Window | None = window
        while rest and len(results) <= MAX_RESTS:
            result = await self._submit(rest, decoding)
            results.append((rest, result))
            decoding = replace(decoding, language=result.language)
            rest = None if once else _rest(rest, result)
        return results

    async def _submit(self, window: Window, decoding: DecodingOptions) -> WindowResult:
        hint_s = self._recording.duration_hint_s
        short = hint_s is not None and hint_s <= INTERACTIVE_S and window.start_s < INTERACTIVE_S
        async with (
            nullcontext() if short else self._capacity.place(self._client)
        ):  # a clip's few windows wait for no other recording's
            loaded = await asyncio.to_thread(self._recording.load, window)
            future = self._engine.submit(
                loaded,
                decoding,
                request=self._request,
                priority="interactive" if short else "bulk",
                client=self._client,
            )
            result = await asyncio.wrap_future(future)
            if self.begun_s is None:
                self.begun_s = asyncio.get_running_loop().time() - result.ran_s
            return result


def _rest(window: Window, result: WindowResult) -> Window | None:
    """The part of `window` that the model has not transcribed, if it is long enough to contain speech."""
    left = window.length - result.consumed
    if result.consumed <= 0 or left <= MIN_REST_S * SAMPLE_RATE:
        return None
    return window.after(result.consumed)
