"""A job: one window in the queue of an engine."""

import time
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field

from server.engine.interface import Model
from server.options import Priority
from server.transcript import WindowResult
from server.whisper.decoding import WindowState


@dataclass(eq=False)
class Job:
    """A window in progress, and the future that its request waits for."""

    state: WindowState
    request: str
    client: str
    priority: Priority
    model: Model
    future: Future[WindowResult] = field(default_factory=Future)
    submitted_s: float = field(default_factory=time.monotonic)
    begun_s: float | None = None
    taken_s: float = 0.0  # into the batch that is running
    abandoned: bool = False
    _key: Hashable = None

    @property
    def aligning(self) -> bool:
        """True if the next step is alignment; else it is decoding."""
        return self.state.decoded is not None

    @property
    def key(self) -> Hashable:
        if self._key is None:
            make = self.model.align_key if self.aligning else self.model.decode_key
            try:
                self._key = (self.aligning, make(self.state))
            except Exception:  # options that the model doesn't support: in a batch of its own, the job fails alone
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
        """Fail the job unless it has ended. A job that has not begun may be cancelled by its request meanwhile."""
        self.state.encoded = None
        if not self.future.done() and (self.begun_s is not None or self.future.set_running_or_notify_cancel()):
            self.future.set_exception(error)
