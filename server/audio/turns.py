"""Turns of decoding: which file is decoded next, and for how long.

A file that is being decoded holds a *turn*. After a stretch of audio (`scanner.TURN_CPU_S`) it gives the turn back,
and its process stands still until it gets another one. Four rules say who is next:

1. Files that have not begun come first: most end with their first turn. One turn is kept for them, so a clip waits
   for no stretch of a longer file, but for other files that have not begun. Every fourth turn goes to one that has
   begun, so that long files never starve.
2. Clients take turns: in each round each client gets one.
3. Of a client's files that have not begun the smallest upload is next; of those that have, each in its turn.
4. A client has at most as many processes as there are turns, and one more for a small upload, which doesn't wait
   for the client's own long files. A client without a process may always start one.

For example with one place. A sends the long files A1 and A2, B the long file B1, then C a clip, C1:

    A1 | B1    both at once: A1 has the place, B1 the turn that is kept for files that have not begun
    A1 | -     then they take turns. A2 has to wait for the end of A1 (rule 4)
    B1 | -
    A1 | C1    C1 begins as soon as it comes

This is not `engine.fair_queue`, which forms batches of items that are done when they are taken: here a file with a
turn keeps its process between turns, and the number of those is bounded too.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import Cancelled
from server.options import SMALL_BYTES

FURTHER_EVERY = 4


class Turn:
    """A file's place among those to be decoded. `has_begun`: it has a process, and has had a turn."""

    def __init__(self, client: str, size_bytes: int) -> None:
        self.client = client
        self.size_bytes = size_bytes
        self.has_begun = False
        self.is_further = False  # the turn that it holds, or had last, was not its first
        self.is_held = False
        self.is_cancelled = False
        self.decided = threading.Event()  # it is held or cancelled


class Turns:
    """Grants up to `places` turns at a time, and one more to a file that has not begun. Thread-safe."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._held = 0
        self._held_further = 0  # those that are not the first of their file
        self._grants = 0
        self._lock = threading.Lock()
        # By client, in the order of the clients' turns. Clients without waiting files are not in there.
        self._first: OrderedDict[str, list[Turn]] = OrderedDict()
        self._further: OrderedDict[str, list[Turn]] = OrderedDict()
        self._processes: Counter[str] = Counter()

    @contextmanager
    def taken(self, turn: Turn) -> Iterator[None]:
        """Wait for the first turn; when the block ends, its process has ended. Raises `Cancelled`."""
        self.take(turn)
        try:
            yield
        finally:
            with self._lock:
                self._processes[turn.client] -= 1
                self._processes = +self._processes
            self.give_back(turn)

    def take(self, turn: Turn) -> None:
        """Wait for a turn. Raises `Cancelled` if `turn` is cancelled before it gets one."""
        with self._lock:
            if not turn.is_cancelled:
                self._ring(turn).setdefault(turn.client, []).append(turn)
                self._grant()
        turn.decided.wait()
        if not turn.is_held:
            raise Cancelled("The request was cancelled.")

    def give_back(self, turn: Turn) -> None:
        """Let the next file have the turn. Does nothing if it is not held."""
        with self._lock:
            if turn.is_held:
                turn.is_held = False
                if not turn.is_cancelled:
                    turn.decided.clear()
                self._held -= 1
                self._held_further -= turn.is_further
            self._grant()

    @property
    def held(self) -> int:
        """Number of turns that files have now."""
        return self._held

    @property
    def processes(self) -> int:
        """Number of files that have begun and not ended."""
        return self._processes.total()

    def is_waiting(self, turn: Turn) -> bool:
        with self._lock:
            return turn in self._ring(turn).get(turn.client, ())

    def cancel(self, turn: Turn) -> None:
        """End its waiting, now or later; a turn that it holds remains its own until it is given back."""
        with self._lock:
            turn.is_cancelled = True
            if turn in self._ring(turn).get(turn.client, ()):
                self._remove(turn)
            turn.decided.set()

    def _ring(self, turn: Turn) -> OrderedDict[str, list[Turn]]:
        return self._further if turn.has_begun else self._first

    def _remove(self, turn: Turn) -> None:
        ring = self._ring(turn)
        ring[turn.client].remove(turn)
        if not ring[turn.client]:
            del ring[turn.client]

    def _grant(self) -> None:
        """With the lock held: give out the free turns."""
        while self._held <= self._places and (turn := self._next()):
            self._remove(turn)
            if turn.client in (ring := self._ring(turn)):
                ring.move_to_end(turn.client)
            turn.is_further = turn.has_begun
            turn.has_begun = turn.is_held = True
            self._held += 1
            self._held_further += turn.is_further
            self._processes[turn.client] += not turn.is_further
            self._grants += 1
            turn.decided.set()

    def _next(self) -> Turn | None:
        further = None
        if self._held_further < self._places:
            further = next((turns[0] for turns in self._further.values()), None)
        first = next(filter(None, map(self._next_to_begin, self._first.values())), None)
        is_further_turn = self._grants % FURTHER_EVERY == FURTHER_EVERY - 1
        return further or first if is_further_turn else first or further

    def _next_to_begin(self, turns: list[Turn]) -> Turn | None:
        """The next of a client's files, unless the client has as many processes as it may have."""
        turn = min(turns, key=lambda turn: turn.size_bytes)
        allowed = self._places + (turn.size_bytes <= SMALL_BYTES)
        return turn if self._processes[turn.client] < allowed else None
