"""The speed at which the server has processed audio in the last minutes."""

import time
from collections.abc import Callable

HALF_LIFE_S = 120.0  # of work: after so many seconds of it, older measurements count half


class Throughput:
    """Seconds of audio per second of work; idle time doesn't count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._updated_s = clock()
        self._busy = False
        self._total_s = 0.0
        self._audio_s = 0.0
        self._spent_s = 0.0

    def look(self, total_s: float, *, busy: bool) -> None:
        """Record the audio done since the start, s, and whether there is work from now on; call at each change."""
        now = self._clock()
        spent_s = now - self._updated_s if self._busy else 0.0
        kept = 0.5 ** (spent_s / HALF_LIFE_S)
        self._audio_s = self._audio_s * kept + total_s - self._total_s
        self._spent_s = self._spent_s * kept + spent_s
        self._updated_s, self._busy, self._total_s = now, busy, total_s

    @property
    def value(self) -> float | None:
        """The speed; None until something was done."""
        return self._audio_s / self._spent_s if self._audio_s > 0 and self._spent_s > 0 else None
