"""Decodes uploads in the background: audio and windows come out as fast as decoding goes, in threads or processes.

Knows the scanner, its errors and its spool; no audio, no model, no HTTP. A scanner is free again as soon as the
file is decoded, however long the engine takes for it.
"""

import logging
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Protocol

from server.audio.messages import Decoded, Done, Message, Opened, WindowFound
from server.audio.spool import Spool, SpoolBudget
from server.audio.workers import ForkServerLost, MediaWorkers, WorkerLost
from server.errors import Cancelled, Unavailable, UndecodableAudio
from server.options import ScanOptions, UploadFd, VadOptions
from server.settings import Settings
from server.stats import MediaStats
from server.system.scratch import ScratchFolder
from server.transcript import SAMPLE_RATE, Window

TRIES = 2  # after a lost worker, which may have been killed from outside or for lack of memory
RESTARTS = 5  # of the fork server

logger = logging.getLogger(__name__)


class FileScanner(Protocol):
    """Scans files: `scanner.Scanner` in this process, `workers.MediaWorkers` in others."""

    def scan(
        self, source: int, spool: Spool, options: ScanOptions, stop: threading.Event
    ) -> Generator[Message]: ...

    @property
    def is_ready(self) -> bool: ...

    def wait_until_ready(self) -> None: ...

    def stats(self) -> MediaStats: ...

    def close(self) -> None: ...


class Recording:
    """A file during and after decoding: `finished` resolves to its counted duration in seconds, or to its error.

    `duration_hint_s` is the container's claim; None before it is opened, and when it claims nothing.
    `mel_max` is the largest log-mel value of the whole file, once it has finished, if it was requested.
    """

    def __init__(self, spool: Spool, on_window: Callable[[Window], None]) -> None:
        self.finished: Future[float] = Future()
        self.duration_hint_s: float | None = None
        self.mel_max: float | None = None
        self.stop = threading.Event()
        self.spool = spool
        self._on_window = on_window
        self._windows = 0

    @property
    def decoded_s(self) -> float:
        """Seconds decoded so far."""
        return self.spool.samples / SAMPLE_RATE

    @property
    def known_s(self) -> float:
        """Duration in s: exact at the end, until then the larger of the container's claim and what is decoded."""
        return self.decoded_s if self.finished.done() else max(self.decoded_s, self.duration_hint_s or 0.0)

    def load(self, window: Window) -> Window:
        """Return `window` with its samples."""
        return self.spool.load(window)

    def follow(self, messages: Iterator[Message]) -> float:
        """Process the messages of one scan, skipping windows already reported; returns the duration in s."""
        for message in messages:
            match message:
                case Opened(hint_s):
                    self.duration_hint_s = hint_s
                case Decoded(samples):
                    self.spool.reach(samples)
                case WindowFound(window) if window.index == self._windows:
                    self._windows += 1
                    self._on_window(window)
                case Done(samples, mel_max):
                    self.mel_max = mel_max
                    return samples / SAMPLE_RATE
        raise Cancelled("The request was cancelled.")

    def close(self) -> None:
        """Stop decoding, and free the spool once nothing writes to it any more."""
        self.stop.set()
        self.finished.cancel()  # if it has not started
        self.finished.add_done_callback(lambda _: self.spool.close())


class MediaDecoder:
    """Scans up to `workers` files at a time. Closing waits for those in progress, and closes the scanner.

    `scratch` holds uploads too.
    """

    def __init__(self, scanner: FileScanner, *, workers: int, spool_bytes: int, max_audio_s: float) -> None:
        self.scratch = ScratchFolder()
        self._scanner = scanner
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="media")
        self._budget = SpoolBudget(spool_bytes)
        self._max_audio_s = max_audio_s

    def open(
        self, source: UploadFd, options: VadOptions, *, on_window: Callable[[Window], None], mels: int = 0
    ) -> Recording:
        """Start decoding `source`, which must stay open until the recording has finished.

        `on_window` is called from a thread for each window, in order, before `finished` is done. `mels` above 0
        requests `mel_max` over that many mel bands. Errors of the file (`UndecodableAudio`, `AudioTooLong` ...)
        end `finished`. Raises `Unavailable` if storage or threads are exhausted.
        """
        recording = Recording(Spool(self._budget, self.scratch), on_window)
        try:
            self._threads.submit(self._work, source, ScanOptions(options, self._max_audio_s, mels), recording)
        except RuntimeError as error:  # out of threads; it may have been queued all the same
            recording.close()
            raise Unavailable("Audio can't be decoded at the moment: the system has no threads left.") from error
        return recording

    @property
    def is_ready(self) -> bool:
        """True if a file can be decoded right away."""
        return self._scanner.is_ready

    def wait_until_ready(self) -> None:
        """Return once files can be decoded; raises `Unavailable` if they can't be."""
        self._scanner.wait_until_ready()

    def stats(self) -> MediaStats:
        """State of the decoding processes."""
        return self._scanner.stats()

    @property
    def spooled_bytes(self) -> int:
        """Bytes of decoded audio on disk now."""
        return self._budget.used

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=False)
        self._scanner.close()
        self.scratch.close()

    def _work(self, source: UploadFd, options: ScanOptions, recording: Recording) -> None:
        if not recording.finished.set_running_or_notify_cancel():
            return
        try:
            duration_s = self._scan(source, options, recording)
        except Exception as error:  # the boundary of a thread: every error is reported to the request
            recording.finished.set_exception(error)
        else:
            recording.finished.set_result(duration_s)

    def _scan(self, source: UploadFd, options: ScanOptions, recording: Recording) -> float:
        tries, restarts = TRIES, RESTARTS
        while tries and restarts:
            with closing(self._scanner.scan(source.fd, recording.spool, options, recording.stop)) as messages:
                try:
                    return recording.follow(messages)
                except ForkServerLost as lost:
                    restarts -= 1
                    logger.warning("all media workers ended: %s", lost)
                except WorkerLost as lost:
                    tries -= 1
                    logger.warning("a media worker ended without a result: %s", lost)
        if tries:
            raise Unavailable("Audio can't be decoded at the moment: the media workers keep crashing.")
        raise UndecodableAudio("Every process that tried to decode it crashed.")


def open_media(settings: Settings, scanner: FileScanner | None = None) -> MediaDecoder:
    """A decoder configured by `settings`; without a `scanner` it runs worker processes, on Linux."""
    return MediaDecoder(
        scanner or _scanner(settings),
        workers=settings.media_workers,
        spool_bytes=settings.spool_bytes,
        max_audio_s=settings.max_audio_seconds,
    )


def _scanner(settings: Settings) -> FileScanner:
    if sys.platform == "linux":
        memory_bytes = settings.media_memory_mb << 20
        return MediaWorkers(memory_bytes=memory_bytes, timeout_s=settings.media_timeout_seconds)
    else:
        from server.audio.scanner import Scanner

        return Scanner()
