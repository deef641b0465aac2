"""The queue in front of a model: fair between requests, two classes, batches of equal keys.

Knows nothing of what it holds beyond `Item`. Interactive items go first; every fourth take starts with bulk, so
that it never starves. Inside a class each request gets one place per round, so that a file of three hours and a
clip of five seconds share the machine.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from server.errors import QueueFull, Unavailable
from server.options import Priority

BULK_EVERY = 4
BATCH_WAIT_S = 0.005  # what an idle worker waits for others to come


class Item(Protocol):
    """What waits: whose it is, in which class, what it can share a batch with."""

    @property
    def request(self) -> str: ...

    @property
    def priority(self) -> Priority: ...

    @property
    def key(self) -> Hashable: ...

    def begin(self) -> bool:
        """Called once, when it is taken for the first time; False if nobody wants it any more."""
        ...


T = TypeVar("T", bound=Item)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """A batch. `is_bulk_turn`: it goes before interactive items, whose turn it isn't, and must not step back."""

    items: list[T]
    priority: Priority
    is_bulk_turn: bool


class FairQueue(Generic[T]):
    """Thread-safe; bounded by `capacity` items, not counting those that are put back."""

    def __init__(
        self, capacity: int, *, mix_classes: bool, spread: bool = False, batch_wait_s: float = BATCH_WAIT_S
    ) -> None:
        """`mix_classes`: whether a batch of one class may be filled up with the other. `spread`: whether idle
        takers divide what waits among them; else the first takes all that fits."""
        self._capacity = capacity
        self._mix = mix_classes
        self._spread = spread
        self._batch_wait_s = batch_wait_s
        self._rings: dict[Priority, OrderedDict[str, deque[T]]] = {
            "interactive": OrderedDict(),
            "bulk": OrderedDict(),
        }
        self._changed = threading.Condition()
        self._turn = 0
        self._idle = 0  # takers that wait
        self._closed = False

    def put(self, item: T) -> None:
        """Append; raises `QueueFull`, or `Unavailable` once closed."""
        with self._changed:
            if self._closed:
                raise Unavailable("The server is shutting down.")
            if len(self) >= self._capacity:
                raise QueueFull("Too much audio is waiting for this model.")
            self._ring(item).setdefault(item.request, deque()).append(item)
            self._changed.notify()

    def requeue(self, items: Iterable[T]) -> bool:
        """Put items that were taken in front of their class again; False (and nothing done) once closed."""
        with self._changed:
            if self._closed:
                return False
            for item in reversed(list(items)):
                ring = self._ring(item)
                ring.setdefault(item.request, deque()).appendleft(item)
                ring.move_to_end(item.request, last=False)
            self._changed.notify_all()
            return True

    def next_batch(self, limit_of: Callable[[T], int], *, idle_s: float | None = None) -> Batch[T] | None:
        """The next batch, at most `limit_of(its first item)` items with one key; None once closed.

        An empty one after `idle_s` seconds in which nothing came.
        """
        with self._changed:
            while True:
                self._idle += 1
                try:
                    came = self._wait_for_items(limit_of, idle_s)
                finally:
                    self._idle -= 1
                if not came:
                    return None if self._closed else Batch([], "bulk", False)
                self._turn += 1
                if (take := self._next(self._share_of(limit_of))) is not None:
                    if len(self):
                        self._changed.notify()  # this taker may have used up the others' wake-ups
                    return take

    def remove(self, request: str) -> list[T]:
        """Take out everything of a request."""
        with self._changed:
            return [item for ring in self._rings.values() for item in ring.pop(request, ())]

    def close(self) -> list[T]:
        """Let nothing in any more, wake whoever waits, and hand out what was left."""
        with self._changed:
            self._closed = True
            left = list(self)
            for ring in self._rings.values():
                ring.clear()
            self._changed.notify_all()
            return left

    def turns(self) -> list[str]:
        """The requests that wait, in the order of their turns."""
        with self._changed:
            return list(dict.fromkeys([*self._rings["interactive"], *self._rings["bulk"]]))

    def ahead(self, request: str) -> int:
        """How many other requests have their turn before `request`; all that wait, where nothing of it is here."""
        turns = self.turns()
        return turns.index(request) if request in turns else len(turns)

    def waits(self, priority: Priority) -> bool:
        """Whether anything of that class waits. Cheap, and momentary."""
        return bool(self._rings[priority])

    def __len__(self) -> int:
        return sum(len(items) for ring in self._rings.values() for items in ring.values())

    def __iter__(self) -> Iterator[T]:
        with self._changed:
            return iter([item for ring in self._rings.values() for items in ring.values() for item in items])

    def _ring(self, item: T) -> OrderedDict[str, deque[T]]:
        return self._rings[item.priority]

    def _wait_for_items(self, limit_of: Callable[[T], int], idle_s: float | None) -> bool:
        """Wait until something is there; an idle worker then waits a moment for company. False: nothing came."""
        idle = not len(self)
        while not len(self) and not self._closed:
            if not self._changed.wait(idle_s):
                return False
        if idle and not self._closed:
            deadline = time.monotonic() + self._batch_wait_s
            while len(self) < limit_of(next(iter(self))) and not self._closed:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
                if not len(self):  # another worker was quicker
                    return self._wait_for_items(limit_of, idle_s)
        return not self._closed

    def _share_of(self, limit_of: Callable[[T], int]) -> Callable[[T], int]:
        if not (self._spread and self._idle):
            return limit_of
        share = math.ceil(len(self) / (self._idle + 1))
        return lambda item: min(limit_of(item), share)

    def _next(self, limit_of: Callable[[T], int]) -> Batch[T] | None:
        order: tuple[Priority, Priority] = ("interactive", "bulk")
        is_bulk_turn = self._turn % BULK_EVERY == 0 and all(self._rings.values())
        if is_bulk_turn:
            order = ("bulk", "interactive")
        first = next((priority for priority in order if self._rings[priority]), None)
        if first is None:
            return None
        batch: list[T] = []
        for priority in order if self._mix else (first,):
            self._fill(batch, self._rings[priority], limit_of)
        return Batch(batch, first, is_bulk_turn) if batch else None

    def _fill(self, batch: list[T], ring: OrderedDict[str, deque[T]], limit_of: Callable[[T], int]) -> None:
        """Add one item of each request per round, as long as keys are equal and there is room."""
        progress = True
        while progress:
            progress = False
            for request in list(ring):
                if batch and len(batch) >= limit_of(batch[0]):
                    return
                items = ring[request]
                if not batch or items[0].key == batch[0].key:
                    item = items.popleft()
                    progress = True
                    if item.begin():
                        batch.append(item)
                    ring.move_to_end(request)
                if not items:
                    del ring[request]
