import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from server.audio.turns import Turn, Turns
from server.errors import Cancelled
from server.options import SMALL_BYTES
from tests.support.fakes import DEADLINE_S, wait_until

LARGE = SMALL_BYTES + 1


class File:
    """A file that is decoded in `stretches` turns, each of which ends when the test says so."""

    def __init__(self, line: "Line", client: str, size_bytes: int, stretches: int) -> None:
        self.client = client
        self.turn = Turn(client, size_bytes)
        self.left = stretches
        self.error: BaseException | None = None
        self._line = line
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end_turn(self) -> None:
        self._go.release()

    def join(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        turns = self._line.turns
        try:
            with turns.taken(self.turn):
                self._stretch()
                while self.left:
                    turns.give_back(self.turn)
                    turns.take(self.turn)
                    self._stretch()
        except Cancelled as error:
            self.error = error

    def _stretch(self) -> None:
        self._line.note(self)
        assert self._go.acquire(timeout=DEADLINE_S), "held for too long"
        self.left -= 1


class Line:
    """Turns, and the files that had them, in order."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.had: list[File] = []
        self._names: dict[File, str] = {}

    def add(self, name: str, *, size: int = LARGE, stretches: int = 1000) -> File:
        """A file of the client that the first letter of its name says; returns once it has a turn or waits."""
        file = File(self, name[0], size, stretches)
        self._names[file] = name
        wait_until(lambda: file in self.had or file in self.waiting())
        return file

    def waiting(self) -> list[File]:
        rings = (self.turns._first, self.turns._further)
        turns = [turn for ring in rings for waiting in ring.values() for turn in waiting]
        return [file for file in self._names if file.turn in turns]

    def note(self, file: File) -> None:
        self.had.append(file)

    def order(self, count: int) -> list[str]:
        """The names of the next `count` files that get a turn, where there is one place."""
        names = []
        for _ in range(count):
            number = len(self.had)
            self.had[-1].end_turn()
            wait_until(lambda number=number: len(self.had) > number)  # type: ignore[misc]
            names.append(self._names[self.had[-1]])
        return names

    def end(self) -> None:
        for file in self._names:
            file.left = 1
            self.turns.cancel(file.turn)
            file.end_turn()
        for file in self._names:
            file.join()
        assert self.turns._free == self.turns._places
        assert not self.turns._processes


@contextmanager
def one_place() -> Iterator[Line]:
    line = Line(1)
    try:
        yield line
    finally:
        line.end()


def test_a_clip_is_next_however_many_files_of_another_client_are_under_way() -> None:
    with one_place() as line:
        for number in range(10):
            line.add(f"a{number}")
        line.order(5)
        line.add("b", stretches=1)
        assert "b" in line.order(2)  # the second where the first was the one in four for files that have begun


def test_clients_take_turns() -> None:
    with one_place() as line:
        for name in ("a", "b", "c"):
            line.add(name)
        assert line.order(2) == ["b", "c"]
        assert Counter(line.order(30)) == {"a": 10, "b": 10, "c": 10}


def test_files_that_have_not_begun_come_first_in_rounds_of_clients_the_smallest_of_each() -> None:
    with one_place() as line:
        line.add("z", stretches=1)
        for name, size in [("a1", 300), ("a2", 100), ("a3", 200), ("b1", 900), ("b2", 800)]:
            line.add(name, size=size, stretches=1)
        assert line.order(5) == ["a2", "b2", "a3", "b1", "a1"]


def test_every_fourth_turn_is_for_a_file_that_has_begun() -> None:
    with one_place() as line:
        line.add("z")
        for number in range(12):
            line.add(f"{chr(ord('a') + number)}", size=number, stretches=1)
        order = line.order(12)
        assert order.count("z") in (3, 4)
        assert "z" in order[:4]


def test_a_client_has_no_more_processes_than_places_and_one_for_a_small_upload() -> None:
    with one_place() as line:
        line.add("a1")
        line.add("a2")
        line.add("a3", size=SMALL_BYTES)
        assert line.order(4) == ["a3", "a1", "a3", "a1"]
        line.had[-1].left = 1  # ends with this turn
        assert line.order(1) == ["a3"]  # it counts as one of the client's processes
        line.had[-1].left = 1
        assert line.order(2) == ["a2", "a2"]


def test_a_client_without_a_process_may_always_start_one() -> None:
    with one_place() as line:
        names = [f"{chr(ord('a') + number)}" for number in range(20)]
        for name in names:
            line.add(name)
        line.order(60)
        assert {file.client for file in line.had} == set(names)


def test_files_share_all_places() -> None:
    line = Line(3)
    for number in range(3):
        line.add(f"a{number}")
    assert len(line.had) == 3
    line.add("b")
    assert len(line.had) == 3
    line.had[0].end_turn()
    wait_until(lambda: len(line.had) == 4)
    assert line.had[-1].client == "b"
    line.end()


def test_a_file_that_is_cancelled_while_it_waits_gets_no_turn() -> None:
    with one_place() as line:
        line.add("a")
        waiting = line.add("b")
        line.turns.cancel(waiting.turn)
        waiting.join()
        assert isinstance(waiting.error, Cancelled)
        assert line.order(3) == ["a", "a", "a"]
        assert waiting not in line.had


def test_a_file_that_is_cancelled_between_its_turns_gives_its_place_up() -> None:
    with one_place() as line:
        first, _ = line.add("a"), line.add("b")
        assert line.order(1) == ["b"]
        line.turns.cancel(first.turn)
        first.join()
        assert isinstance(first.error, Cancelled)
        assert line.order(2) == ["b", "b"]


def test_a_turn_that_is_cancelled_before_it_is_asked_for_is_never_granted() -> None:
    turns, turn = Turns(1), Turn("a", 1)
    turns.cancel(turn)
    with pytest.raises(Cancelled), turns.taken(turn):
        raise AssertionError
    with turns.taken(Turn("a", 1)):
        pass


def test_never_more_files_have_turns_than_there_are_places() -> None:
    turns, inside, most = Turns(2), Counter[str](), list[int]()
    lock = threading.Lock()

    def work(number: int) -> None:
        turn = Turn(f"client {number % 7}", number * 1_000_000)
        with turns.taken(turn):
            for _ in range(5):
                with lock:
                    inside["now"] += 1
                    most.append(inside["now"])
                with lock:
                    inside["now"] -= 1
                turns.give_back(turn)
                turns.take(turn)

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(50))
        list(pool.map(work, range(200)))
    assert max(most) <= 2
    assert (turns._free, +turns._processes) == (2, Counter())
