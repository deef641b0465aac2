"""The queue in front of a model: fair between clients and requests, two classes, batches of equal keys.

A worker of the engine takes one batch at a time, and the queue decides which. It keeps a ring of clients for each
class, `interactive` and `bulk`; in it each client has a ring of its requests, and each request its own queue of
items. Of an item the queue reads only the fields of `Item`: its client, its request, its class, and its key. Only
items with equal keys can share a batch: a model decodes together only windows with equal prompt lengths, beams and
temperature. Four rules make a batch:

1. Interactive items go first, and a batch that starts with one holds only those, unless classes mix (`mix_classes`:
   then bulk fills it up). If both wait, every fourth batch starts with bulk, so that bulk never starves.
2. In a ring each client contributes one item per round, of its next request, then both move to the end. A file of
   three hours and a clip of five seconds share the batch; the file fills the rest of it if it is alone. A client
   with a hundred requests gets no more of it than one with a single request.
3. The first item determines the batch's key and size (`limit_of`). A request whose next item has another key is
   skipped and keeps its turn.
4. Items that come back for another step (`requeue`) go to the front of their request, and their request and client
   to the front of their rings: work in progress ends soon, and its encoder output is not kept for long.

For example, on a CPU, with batches of four for either class. Two recordings, A and B, and a clip C wait; each
number is a window of the request. Each is of a client of its own:

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

A worker that has waited for the first item waits a few milliseconds for more, so that windows arriving together
run together. With `spread`, for workers with cores of their own, a worker leaves idle workers their share: with
five windows and two idle workers, one takes three and the other two.
"""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Generic, Protocol, TypeVar

from server.errors import QueueFull, Unavailable
from server.options import Priority

BULK_EVERY = 4
BATCH_WAIT_S = 0.005  # how long an idle worker waits for more items


class Item(Protocol):
    """A queued item: its client and request, its class, and the key that items of a batch share."""

    @property
    def client(self) -> str: ...

    @property
    def request(self) -> str: ...

    @property
    def priority(self) -> Priority: ...

    @property
    def key(self) -> Hashable: ...

    def begin(self) -> bool:
        """Called once, when it is first taken; False if its request has been cancelled."""
        ...


T = TypeVar("T", bound=Item)
Requests = OrderedDict[str, deque[T]]  # of one client, in the order of their turns
Ring = OrderedDict[str, Requests[T]]  # the same of all clients


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """A batch. `is_bulk_turn`: it runs ahead of waiting interactive items by rule 1, and must not step back."""

    items: list[T]
    priority: Priority
    is_bulk_turn: bool


class FairQueue(Generic[T]):
    """Thread-safe; bounded by `capacity` items, not counting requeued ones."""

    def __init__(
        self, capacity: int, *, mix_classes: bool, spread: bool = False, batch_wait_s: float = BATCH_WAIT_S
    ) -> None:
        """`mix_classes`: a batch of one class may be filled up with the other. `spread`: idle workers divide the
        waiting items among themselves; else the first takes all that fits."""
        self._capacity = capacity
        self._mix = mix_classes
        self._spread = spread
        self._batch_wait_s = batch_wait_s
        self._rings: dict[Priority, Ring[T]] = {
            "interactive": OrderedDict(),
            "bulk": OrderedDict(),
        }
        self._changed = threading.Condition()
        self._turn = 0
        self._idle = 0  # waiting workers
        self._closed = False

    def put(self, item: T) -> None:
        """Append; raises `QueueFull`, or `Unavailable` once closed."""
        with self._changed:
            if self._closed:
                raise Unavailable("The server is shutting down.")
            if len(self) >= self._capacity:
                raise QueueFull("Too much audio is waiting for this model.")
            self._requests(item).setdefault(item.request, deque()).append(item)
            self._changed.notify()

    def requeue(self, items: Iterable[T]) -> bool:
        """Put taken items back in front of their class; False (and nothing done) once closed."""
        with self._changed:
            if self._closed:
                return False
            for item in reversed(list(items)):
                requests = self._requests(item)
                requests.setdefault(item.request, deque()).appendleft(item)
                requests.move_to_end(item.request, last=False)
                self._rings[item.priority].move_to_end(item.client, last=False)
            self._changed.notify_all()
            return True

    def next_batch(self, limit_of: Callable[[T], int], *, idle_s: float | None = None) -> Batch[T] | None:
        """The next batch, at most `limit_of(its first item)` items with one key; None once closed.

        Returns an empty batch after `idle_s` seconds without items.
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
                if (batch := self._next(self._share_of(limit_of))) is not None:
                    if len(self):
                        self._changed.notify()  # this worker may have consumed the others' wake-ups
                    return batch

    def remove(self, request: str) -> list[T]:
        """Remove and return all items of a request."""
        with self._changed:
            removed: list[T] = []
            for ring in self._rings.values():
                for client, requests in list(ring.items()):
                    removed += requests.pop(request, ())
                    if not requests:
                        del ring[client]
            return removed

    def close(self) -> list[T]:
        """Refuse further items, wake all waiting workers, and return the remaining items."""
        with self._changed:
            self._closed = True
            left = list(self)
            for ring in self._rings.values():
                ring.clear()
            self._changed.notify_all()
            return left

    def turns(self) -> list[str]:
        """The waiting requests, in scheduling order."""
        with self._changed:
            return list(dict.fromkeys([*_turns(self._rings["interactive"]), *_turns(self._rings["bulk"])]))

    def ahead(self, request: str) -> int:
        """Number of other requests scheduled before `request`; all waiting ones if it has no items here."""
        turns = self.turns()
        return turns.index(request) if request in turns else len(turns)

    def waits(self, priority: Priority) -> bool:
        """True if an item of that class is waiting. Cheap; a snapshot."""
        return bool(self._rings[priority])

    def __len__(self) -> int:
        return sum(map(len, self._queues()))

    def __iter__(self) -> Iterator[T]:
        with self._changed:
            return iter([item for queue in self._queues() for item in queue])

    def _queues(self) -> Iterator[deque[T]]:
        return (queue for ring in self._rings.values() for requests in ring.values() for queue in requests.values())

    def _requests(self, item: T) -> Requests[T]:
        """Those of its client, of its class."""
        return self._rings[item.priority].setdefault(item.client, OrderedDict())

    def _wait_for_items(self, limit_of: Callable[[T], int], idle_s: float | None) -> bool:
        """Wait for an item; an idle worker then waits briefly for more. False after `idle_s` without items."""
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

    def _fill(self, batch: list[T], ring: Ring[T], limit_of: Callable[[T], int]) -> None:
        """Add one item of each client per round, as long as keys are equal and there is room."""
        progress = True
        while progress:
            progress = False
            for client in list(ring):
                if batch and len(batch) >= limit_of(batch[0]):
                    return
                if item := _pop(ring[client], batch[0].key if batch else None):
                    progress = True
                    if item.begin():
                        batch.append(item)
                    ring.move_to_end(client)
                if not ring[client]:
                    del ring[client]


def _pop(requests: Requests[T], key: Hashable | None) -> T | None:
    """Take the next item of a client, with that key unless it is None; its request moves to the end."""
    for request, queue in requests.items():
        if key is None or queue[0].key == key:
            item = queue.popleft()
            if queue:
                requests.move_to_end(request)
            else:
                del requests[request]
            return item
    return None


def _turns(ring: Ring[T]) -> list[str]:
    """The requests in the order of their turns: the first of each client, then the second of each, ..."""
    rounds = zip_longest(*ring.values())
    return [request for turn in rounds for request in turn if request is not None]
