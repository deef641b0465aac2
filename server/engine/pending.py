"""The windows of a supervised engine that have no result yet: which to send next, and which crashed a process."""

from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count

from server.engine.messages import Submit
from server.options import DecodingOptions, Priority
from server.transcript import Window, WindowResult


@dataclass(eq=False, slots=True)
class PendingWindow:
    """A window without a result. If `may_have_crashed`, it was running when a process ended."""

    message: Submit
    future: Future[WindowResult] = field(default_factory=Future)
    sent: bool = False
    may_have_crashed: bool = False


class PendingWindows:
    """Oldest first, by number. Not thread-safe: the owner holds a lock."""

    def __init__(self) -> None:
        self._numbers = count()
        self._pending: dict[int, PendingWindow] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def numbers(self) -> list[int]:
        return list(self._pending)

    def add(self, window: Window, options: DecodingOptions, request: str, priority: Priority) -> PendingWindow:
        pending = PendingWindow(Submit(next(self._numbers), window, options, request, priority))
        self._pending[pending.message.number] = pending
        return pending

    def pop(self, numbers: Iterable[int]) -> list[PendingWindow]:
        """Remove and return those of `numbers` that are pending."""
        return [self._pending.pop(number) for number in numbers if number in self._pending]

    def pop_request(self, request: str) -> list[PendingWindow]:
        """Remove and return all windows of a request."""
        return self.pop([number for number, one in self._pending.items() if one.message.request == request])

    def requests(self, running: Collection[int]) -> set[str]:
        """The requests of the running windows."""
        return {self._pending[number].message.request for number in running if number in self._pending}

    def waiting(self, running: Collection[int]) -> list[Submit]:
        """All windows that are not running."""
        return [one.message for number, one in self._pending.items() if number not in running]

    def send_next(self) -> list[Submit]:
        """Return the windows to send now and mark them as sent: all of them, but those that may have crashed a
        process go first, one by one."""
        waiting = [one for one in self._pending.values() if not one.sent]
        suspects = [one for one in waiting if one.may_have_crashed]
        if len(waiting) < len(self._pending) and any(one.may_have_crashed for one in self._pending.values()):
            return []
        due = suspects[:1] or waiting
        for one in due:
            one.sent = True
        return [one.message for one in due]

    def take_back(self, running: Collection[int]) -> list[int]:
        """After a process ended: mark the windows it ran as suspects, and all as unsent; returns the numbers of
        those that were suspects before."""
        sent = {number: one for number, one in self._pending.items() if one.sent}
        # If none is known to have run, any window in transit may be the cause.
        ran = {number: sent[number] for number in running if number in sent} or sent
        crashed_twice = [number for number, one in ran.items() if one.may_have_crashed]
        for one in ran.values():
            one.may_have_crashed = True
        for one in sent.values():
            one.sent = False
        return crashed_twice
