"""The queue in front of a model: fair between requests, two classes, batches of equal keys.

A worker of the engine has time for one batch, and the queue says which. It keeps a ring of requests for each class,
`interactive` and `bulk`; in its ring each request has its own line of items. The queue reads of an item only what
`Item` names: whose it is, its class, and its key. Only items of equal keys can share a batch: a model decodes
together what has equal prompt lengths, beams and temperature. Four rules make the next batch:

1. Interactive items go first, and a batch that they begin is all theirs, unless classes mix (`mix_classes`: then
   bulk fills it up). Where both wait, every fourth batch begins with bulk, so that bulk never starves.
2. In a ring each request gives one item a round, then goes to the ring's end. A file of three hours and a clip of
   five seconds share the batch; the file has the rest of it where it is alone.
3. The first item sets the batch's key and its size (`limit_of`). A request whose next item has another key is
   passed over and keeps its turn.
4. What comes back for another step (`requeue`) goes in front of its request, and the request in front of its ring:
   what was begun ends soon, and its encoder output is not kept for long.

For example, on a CPU, with batches of four for either class. Two recordings, A and B, and a clip C wait; each
number is a window of the request:

    interactive  C: c1
    bulk         A: a1 a2 a3 a4 a5 | B: b1 b2

    batch 1  [c1]            rule 1: interactive first, and nothing fills it up
    batch 2  [a1 b1 a2 b2]   rule 2: one of each request in a round

b2 has to be decoded again at the next temperature, which is another key, and the engine requeues it. Meanwhile the
second window of the clip has been decoded from its file:

    interactive  C: c2
    bulk         B: b2 | A: a3 a4 a5

    batch 3  [c2]            rule 1
    batch 4  [b2]            rule 4 put B in front; a3 has another key (rule 3)
    batch 5  [a3 a4 a5]

Had more of C waited, batch 4 would have been the same: every fourth begins with bulk.

A worker that has waited for the first item waits a few milliseconds for more, so that windows that come together
run together. With `spread`, for workers that have cores of their own, one that takes a batch leaves idle workers
their share: of five windows before two idle workers one takes three and the other two.
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
