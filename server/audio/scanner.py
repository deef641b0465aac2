"""One scan of a file: its samples into a spool, its speech into windows. The same in any thread or process.

Knows files, audio and voice activity detection; no model, no request.
"""

import threading
import time
from collections.abc import Generator

from server.audio.decode import open_audio
from server.audio.mel import loudest, mel_filters
from server.audio.messages import TURN_SAMPLES, Decoded, Done, Message, Opened, Paused, WindowFound
from server.audio.speech import SpeechModel, make_detector
from server.audio.spool import SpoolFile
from server.audio.windows import WindowPacker
from server.options import ScanOptions
from server.stats import MediaStats
from server.transcript import CONTEXT_SAMPLES, MAX_WINDOW_S, SAMPLE_RATE, Span, Window

PIECE_SAMPLES = int(MAX_WINDOW_S * SAMPLE_RATE)
TURN_CPU_S = 0.1  # of a turn: usually half a minute of audio


class Scanner:
    """Scans any number of files at a time with one shared speech model."""

    def __init__(self) -> None:
        self._speech_model = SpeechModel()

    def scan(
        self, source: int, spool: SpoolFile, options: ScanOptions, stop: threading.Event
    ) -> Generator[Message]:
        """Decode the open file `source` into `spool`, yielding results as they come: `Done` at the end.

        Yields `Paused` after each turn, and does nothing until it is asked to go on. Ends early when `stop` is set.
        Raises `UndecodableAudio`, `AudioTooShort`, `AudioTooLong`, and `Unavailable` if the spool is full.
        """
        detector, packer = make_detector(self._speech_model, options.vad), WindowPacker(options.vad)
        level, turn = _Level(spool, options.mels), _TurnLength()
        with open(source, "rb", closefd=False) as file, open_audio(file, limit_s=options.limit_s) as blocks:
            yield Opened(blocks.duration_hint_s)
            for block in blocks:
                if turn.is_over:
                    yield Paused()
                    turn = _TurnLength()
                if stop.is_set():
                    return
                spool.append(block)
                yield Decoded(spool.samples)
                yield from map(WindowFound, packer.feed(block, detector.feed(block)))
                level.advance()
                turn.add(len(block))
        yield from map(WindowFound, packer.close(detector.close()))
        yield Done(spool.samples, level.close())

    is_ready = True

    def wait_until_ready(self) -> None:
        """Nothing to wait for."""

    def stats(self) -> MediaStats:
        """Empty: there are no processes."""
        return MediaStats()

    def close(self) -> None:
        """Nothing to release."""


class _TurnLength:
    """Measures a turn, by audio and by CPU time."""

    def __init__(self) -> None:
        self._began_s = time.thread_time()
        self._samples = 0

    def add(self, samples: int) -> None:
        self._samples += samples

    @property
    def is_over(self) -> bool:
        """True once it is long enough; it has at least one block."""
        is_long = time.thread_time() - self._began_s >= TURN_CPU_S
        return self._samples >= TURN_SAMPLES or (is_long and self._samples > 0)


class _Level:
    """The largest log-mel value of everything in a spool, read in pieces of a window's length."""

    def __init__(self, spool: SpoolFile, mels: int) -> None:
        self._spool = spool
        self._mels = mels
        self._position = 0
        self._highest: float | None = None

    def advance(self) -> None:
        """Process every piece that is complete, with the context after it."""
        while self._mels and self._position + PIECE_SAMPLES + CONTEXT_SAMPLES <= self._spool.samples:
            self._hear(self._position + PIECE_SAMPLES)

    def close(self) -> float | None:
        """Process the rest and return the value, None if it was not requested."""
        while self._mels and self._position < self._spool.samples:
            self._hear(min(self._position + PIECE_SAMPLES, self._spool.samples))
        return self._highest

    def _hear(self, end: int) -> None:
        piece = self._spool.load(Window(self._position // PIECE_SAMPLES, (Span(self._position, end),)))
        value = loudest(piece, mel_filters(self._mels))
        self._highest = value if self._highest is None else max(value, self._highest)
        self._position = end
