"""Decoded audio on disk: one private, unnamed file per request, under a common budget."""

import os
import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from server.errors import Unavailable
from server.system.scratch import ScratchFolder
from server.transcript import CONTEXT_SAMPLES, SAMPLE_BYTES, Window


class SpoolBudget:
    """Limits the bytes that all spools together may hold."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Reserve `count` bytes; raises `Unavailable` if the budget is exhausted."""
        with self._lock:
            if self._used + count > self._limit:
                raise Unavailable(
                    "The server has no space left for decoded audio (SOTTO_SPOOL_MB). Please try again later."
                )
            self._used += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self._used -= count

    @property
    def used(self) -> int:
        return self._used


class SpoolFile:
    """16 kHz mono int16 samples of one file, appended by one thread or process and read by any other."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.samples = 0

    def append(self, block: npt.NDArray[np.int16]) -> None:
        """Add samples; raises `Unavailable` when the disk is full."""
        rest = memoryview(block.tobytes())
        offset = self.samples * SAMPLE_BYTES
        while rest:
            written = self._write(rest, offset)
            rest, offset = rest[written:], offset + written
        self.samples += len(block)  # last: a reader in another thread must not see samples before they are written

    def load(self, window: Window) -> Window:
        """Return `window` with its samples, and with the real context around it where there is any.

        The first window has none before it: as with faster-whisper, the model's input begins there.
        """
        lead = 0 if window.is_first else min(CONTEXT_SAMPLES, window.offset)
        tail = min(CONTEXT_SAMPLES, self.samples - window.end)
        spans = [[span.start, span.end] for span in window.spans]
        spans[0][0] -= lead
        spans[-1][1] += tail
        return replace(window, samples=b"".join(self._read(*span) for span in spans), lead=lead, tail=tail)

    def _write(self, data: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._fd, data, offset)
        except OSError as error:
            raise Unavailable(f"Decoded audio can't be stored: {error.strerror}.") from error

    def _read(self, start: int, end: int) -> bytes:
        data = os.pread(self._fd, (end - start) * SAMPLE_BYTES, start * SAMPLE_BYTES)
        if len(data) != (end - start) * SAMPLE_BYTES:
            raise Unavailable("Decoded audio is incomplete on disk.")
        return data


class Spool(SpoolFile):
    """The file of one request, under a budget. Its writer reports its progress with `reach`."""

    def __init__(self, budget: SpoolBudget, scratch: ScratchFolder) -> None:
        """Raises `Unavailable` if no file can be created."""
        self._budget = budget
        self._taken = 0  # bytes reserved in the budget
        try:
            self._file = scratch.file()
        except OSError as error:
            raise Unavailable(f"Decoded audio can't be stored: {error.strerror}.") from error
        super().__init__(self._file.fileno())

    def fileno(self) -> int:
        return self._fd

    @property
    def written(self) -> int:
        """Samples in the file, whichever process wrote them."""
        return os.fstat(self._fd).st_size // SAMPLE_BYTES

    def reach(self, samples: int) -> None:
        """Account for the file's growth and make `samples` readable; raises `Unavailable` beyond the budget."""
        more = self.written * SAMPLE_BYTES - self._taken
        if more > 0:
            self._budget.take(more)
            self._taken += more
        self.samples = max(samples, self.samples)

    def close(self) -> None:
        """Free the disk space; calling it again does nothing."""
        if not self._file.closed:
            self._file.close()
            self._budget.give_back(self._taken)
