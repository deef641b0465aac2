"""How long a media worker may take, by what it has decoded so far. The main process holds it to that."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.system.machine import cpu_s
from server.transcript import SAMPLE_RATE

SLOWEST = 20  # times real time, in CPU time; the usual speed is ten times that


class WorkLimit:
    """Ends a file that is decoded slower than any sound one, long before the limit of the longest recording.

    It may take `timeout_s` seconds of CPU time, and one more for each `SLOWEST` seconds decoded. In real time,
    counted only while its next message is awaited, it must keep up with the recording, but for `timeout_s`.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        now_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[int], float] = cpu_s,
    ) -> None:
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._cpu_s = cpu_s
        self._pid = 0
        self._decoded_s = 0.0
        self._awaited_s = 0.0

    def start(self, pid: int) -> None:
        """The worker's process, by its own word: only the first one counts, from before it has read its file."""
        self._pid = self._pid or pid

    def advance(self, samples: int) -> None:
        """It has decoded `samples` by now."""
        self._decoded_s = samples / SAMPLE_RATE

    @contextmanager
    def awaiting(self) -> Iterator[None]:
        """Count the time of this block."""
        began_s = self._now_s()
        try:
            yield
        finally:
            self._awaited_s += self._now_s() - began_s

    @property
    def is_exceeded(self) -> bool:
        if self._awaited_s > self._timeout_s + self._decoded_s:
            return True
        return self._pid > 0 and self._cpu_s(self._pid) > self._timeout_s + self._decoded_s / SLOWEST
