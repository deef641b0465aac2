"""What an engine works with: the bounds of its batches, and a window's job in the queue."""

import time
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

from server.engine.interface import Model
from server.options import Priority
from server.transcript import WindowResult
from server.whisper.decoding import Hearing


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of batches and memory. Batches in windows; a sampled window counts `best_of` times.

    `mix_classes`: bulk may fill up an interactive batch, which costs nothing on a GPU. `encode_together`: as well.
    `spread`: idle workers divide what waits, each having cores of its own.
    `cache_bytes` bounds encoder outputs of windows that wait for another step; beyond, they are encoded again.
    """

    interactive: int = 4
    bulk: int = 8
    mix_classes: bool = False
    encode_together: bool = False
    spread: bool = True
    cache_bytes: int = 1 << 30
    max_queued: int = 4096

    @classmethod
    def on(
        cls, device: str, *, batch: int = 0, bulk_batch: int = 0, beam_size: int = 5, cache_bytes: int = 1 << 30
    ) -> "Limits":
        """The limits that suit a device; `batch` and `bulk_batch` above 0 are the operator's word for it."""
        if device == "cpu":
            # A CPU encodes one by one anyway, and a batch runs to its end: a short one keeps short requests quick.
            return cls(batch or 4, bulk_batch or batch or 8, cache_bytes=cache_bytes)
        size = batch or (16 if beam_size == 1 else 8)
        return cls(size, size, mix_classes=True, encode_together=True, spread=False, cache_bytes=cache_bytes)


@dataclass(eq=False)
class Job:
    """A window on its way, and whoever waits for it."""

    hearing: Hearing
    request: str
    priority: Priority
    model: Model
    future: Future[WindowResult] = field(default_factory=Future)
    submitted_s: float = field(default_factory=time.monotonic)
    begun_s: float | None = None
    taken_s: float = 0.0  # into the batch that runs
    abandoned: bool = False
    _key: Hashable = None

    @property
    def aligning(self) -> bool:
        """Whether the next step is alignment; else it is decoding."""
        return self.hearing.decoded is not None

    @property
    def key(self) -> Hashable:
        if self._key is None:
            make = self.model.align_key if self.aligning else self.model.decode_key
            try:
                self._key = (self.aligning, make(self.hearing))
            except Exception:  # options that the model can't take: alone in its batch, the job fails alone
                self._key = id(self)
        return self._key

    def begin(self) -> bool:
        if self.begun_s is None:
            self.begun_s = time.monotonic()
            self.abandoned = not self.future.set_running_or_notify_cancel()
        return not self.abandoned

    def step_done(self) -> None:
        self._key = None

    def fail(self, error: BaseException) -> None:
        """End the job, if it has not ended. What has not begun may be cancelled by its waiter meanwhile."""
        self.hearing.encoded = None
        if not self.future.done() and (self.begun_s is not None or self.future.set_running_or_notify_cancel()):
            self.future.set_exception(error)
