"""An upload in; its decoded audio and its windows out, in worker threads, as fast as decoding goes.

Knows files, audio and voice detection; no model, no HTTP. A worker is free again when its file is decoded,
however long the engine takes for it.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from server.audio import open_audio
from server.errors import Cancelled
from server.mel import loudest, mel_filters
from server.options import UploadFd, VadOptions
from server.spool import Spool, SpoolBudget
from server.transcript import MAX_WINDOW_S, SAMPLE_RATE, Span, Window
from server.vad import Packer, SpeechModel, make_detector


class Recording:
    """A file while it is decoded and after: `finished` ends with its counted duration in seconds, or its error.

    `duration_hint_s` is what the container claims; None until it is open, and where it claims nothing.
    `mel_max` is the largest log-mel value of the whole file, once it has finished, if it was asked for.
    """

    def __init__(self, budget: SpoolBudget) -> None:
        self.finished: Future[float] = Future()
        self.duration_hint_s: float | None = None
        self.mel_max: float | None = None
        self.stop = threading.Event()
        self.spool = Spool(budget)

    def load(self, window: Window) -> Window:
        """`window` with its samples."""
        return self.spool.load(window)

    def close(self) -> None:
        """Stop decoding if it goes on, and free the spool once nobody writes to it any more."""
        self.stop.set()
        self.finished.cancel()  # if no worker has begun
        self.finished.add_done_callback(lambda _: self.spool.close())


class Media:
    """Decodes files in `workers` threads. Closing waits for what they are at."""

    def __init__(self, *, workers: int, spool_bytes: int, max_audio_s: float) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="media")
        self._budget = SpoolBudget(spool_bytes)
        self._max_audio_s = max_audio_s
        self._speech_model = SpeechModel()

    def open(
        self, source: UploadFd, options: VadOptions, *, on_window: Callable[[Window], None], mels: int = 0
    ) -> Recording:
        """Start decoding `source`, which must stay open until the recording has finished.

        `on_window` is called from the worker's thread for each window, in order, before `finished` is done.
        `mels` above 0 asks for `mel_max` over that many mel bands. Errors of the file (`UndecodableAudio`,
        `AudioTooLong` ...) end `finished`.
        """
        recording = Recording(self._budget)
        self._pool.submit(self._work, source, options, recording, on_window, mels)
        return recording

    @property
    def spooled_bytes(self) -> int:
        """Decoded audio on disk now."""
        return self._budget.used

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=False)

    def _work(
        self,
        source: UploadFd,
        options: VadOptions,
        recording: Recording,
        on_window: Callable[[Window], None],
        mels: int,
    ) -> None:
        if not recording.finished.set_running_or_notify_cancel():
            return
        try:
            duration_s = self._decode(source, options, recording, on_window)
            if mels:
                recording.mel_max = _loudest(recording.spool, mels)
        except Exception as error:  # the boundary of a thread: whatever it is, the request has to hear of it
            recording.finished.set_exception(error)
        else:
            recording.finished.set_result(duration_s)

    def _decode(
        self, source: UploadFd, options: VadOptions, recording: Recording, on_window: Callable[[Window], None]
    ) -> float:
        """Decode `source` into the spool, announce its windows, and count its seconds."""
        detector, packer = make_detector(self._speech_model, options), Packer(options)
        with (
            open(source.fd, "rb", closefd=False) as file,
            open_audio(file, limit_s=self._max_audio_s) as blocks,
        ):
            recording.duration_hint_s = blocks.duration_hint_s
            for block in blocks:
                if recording.stop.is_set():
                    raise Cancelled("The request was cancelled.")
                recording.spool.append(block)
                for window in packer.feed(block, detector.feed(block)):
                    on_window(window)
        for window in packer.close(detector.close()):
            on_window(window)
        return recording.spool.samples / SAMPLE_RATE


def _loudest(spool: Spool, mels: int) -> float | None:
    """The largest log-mel value of all that is in `spool`, read once more in pieces of a window's length."""
    step = int(MAX_WINDOW_S * SAMPLE_RATE)
    spans = [Span(start, min(start + step, spool.samples)) for start in range(0, spool.samples, step)]
    return max((loudest(spool.load(Window(0, (span,))), mel_filters(mels)) for span in spans), default=None)
