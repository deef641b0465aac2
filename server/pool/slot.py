"""The pool's record of one model: its files, its state, and when a failed load may be retried."""

import asyncio
from dataclasses import replace
from typing import Literal

from server.errors import SottoError
from server.keep_alive import FOREVER
from server.models.known_model import KnownModel
from server.pool.served_model import ServedModel, Starting
from server.stats import ModelCounters

AGAIN_S = 60.0  # after which a model that has loaded before is retried, whatever the failure

Event = Literal["loads", "unloads", "evictions", "failures"]
Files = tuple[tuple[str, int, int], ...]


class ModelSlot:
    """One model, loaded or not. `keep_s`: how long it stays loaded when idle, unless a request says otherwise."""

    def __init__(self, known: KnownModel, keep_s: float = FOREVER) -> None:
        self.known = known
        self.keep_s = self.kept_s = keep_s
        self.served: ServedModel | None = None
        self.starting: Starting | None = None  # its process, while it loads
        self.loading: asyncio.Task[ServedModel | SottoError] | None = None  # including the wait for memory
        self.ending: asyncio.Future[None] | None = None
        self.leases = 0
        self.last_used_s: float | None = None
        self.gone = False  # removed from the disk
        self.removing = False  # from the disk, at the moment
        self.reason = known.problem
        self.failed_s = 0.0
        self.counters = ModelCounters()
        self._files = files_of(known)

    @property
    def name(self) -> str:
        return self.known.name

    @property
    def is_offered(self) -> bool:
        """True if requests may name it."""
        return not self.gone and not self.removing

    @property
    def is_idle(self) -> bool:
        return self.served is not None and not self.leases

    @property
    def holds_memory(self) -> bool:
        return bool(self.served or self.starting or self.ending)

    @property
    def expires_s(self) -> float:
        return (self.last_used_s or 0.0) + self.kept_s

    def count(self, event: Event) -> None:
        self.counters = replace(self.counters, **{event: getattr(self.counters, event) + 1})

    def update(self, known: KnownModel) -> None:
        """Update the description of its files."""
        self.gone = False
        if not self.holds_memory:
            self.known = known
        if (files := files_of(known)) != self._files:
            self._files, self.reason = files, known.problem

    def fail(self, reason: str, now_s: float) -> None:
        self._files = files_of(self.known)
        self.reason, self.failed_s = reason, now_s
        self.count("failures")

    def may_be_loaded(self, now_s: float) -> bool:
        """False after a failed load, unless its files have changed, or it loaded before and time has passed."""
        if not self.reason or files_of(self.known) != self._files:
            return True
        return self.counters.loads > 0 and now_s - self.failed_s >= AGAIN_S


def files_of(known: KnownModel) -> Files:
    """Names, sizes and times of a model's files, to detect changes."""
    try:
        stats = [(file.name, file.stat()) for file in known.folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
