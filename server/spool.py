"""Decoded audio on disk: one private file per request that no path leads to, under a common budget."""

import os
import tempfile
import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from server.errors import Unavailable
from server.transcript import CONTEXT_SAMPLES, SAMPLE_BYTES, Window


class SpoolBudget:
    """Bytes that all spools together may hold."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._used = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Reserve `count` bytes; raises `Unavailable` if they are not left."""
        with self._lock:
            if self._used + count > self._limit:
                raise Unavailable("The server has no room left for decoded audio. Please try again later.")
            self._used += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self._used -= count

    @property
    def used(self) -> int:
        return self._used


class Spool:
    """16 kHz mono int16 samples of one file, appended by one thread and read by any other."""

    def __init__(self, budget: SpoolBudget) -> None:
        self._budget = budget
        # Already unlinked: nothing is left after a crash. Closed by `close`, not by a with block.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self.samples = 0
        self._taken = 0  # bytes of the budget

    def append(self, block: npt.NDArray[np.int16]) -> None:
        """Add samples; raises `Unavailable` when the budget or the disk is full."""
        data = block.tobytes()
        self._budget.take(len(data))
        self._taken += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._write(rest) :]
        self.samples += len(block)  # last: a reader in another thread must not look for what is not there yet

    def _write(self, data: memoryview) -> int:
        try:
            return self._file.write(data) or 0
        except OSError as error:
            raise Unavailable(f"Decoded audio can't be stored: {error.strerror}.") from error

    def load(self, window: Window) -> Window:
        """`window` with its samples, and with the true context around it as far as there is any."""
        lead = min(CONTEXT_SAMPLES, window.offset)
        tail = min(CONTEXT_SAMPLES, self.samples - window.end)
        spans = [[span.start, span.end] for span in window.spans]
        spans[0][0] -= lead
        spans[-1][1] += tail
        return replace(window, samples=b"".join(self._read(*span) for span in spans), lead=lead, tail=tail)

    def _read(self, start: int, end: int) -> bytes:
        data = os.pread(self._file.fileno(), (end - start) * SAMPLE_BYTES, start * SAMPLE_BYTES)
        if len(data) != (end - start) * SAMPLE_BYTES:
            raise Unavailable("Decoded audio is incomplete on disk.")
        return data

    def close(self) -> None:
        """Free the disk space; calling it again does nothing."""
        if not self._file.closed:
            self._file.close()
            self._budget.give_back(self._taken)
