import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from server.audio.turns import Turn, Turns
from server.errors import Cancelled
from server.options import SMALL_BYTES
from tests.support.fakes import DEADLINE_S, wait_until

LARGE = SMALL_BYTES + 1


class File:
    """A file that is decoded in turns, each of which ends when the test says so."""

    def __init__(self, line: "Line", name: str, size_bytes: int) -> None:
        self.turn = Turn(name[0], size_bytes)
        self.error: BaseException | None = None
        self._line = line
        self._name = name
        self._done = False
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end_turn(self, *, done: bool = False) -> None:
        self._done = done
        self._line.holding.discard(self._name)
        self._go.release()

    def join(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        turns = self._line.turns
        try:
            with turns.taken(self.turn):
                self._stretch()
                while not self._done:
                    turns.give_back(self.turn)
                    turns.take(self.turn)
                    self._stretch()
        except Cancelled as error:
            self.error = error

    def _stretch(self) -> None:
        self._line.holding.add(self._name)
        assert self._go.acquire(timeout=DEADLINE_S), "held for too long"


class Line:
    """Files that take turns. The first letter of a file's name is its client."""

    def __init__(self, places: int) -> None:
        self.turns = Turns(places)
        self.holding: set[str] = set()  # the names of those that have a turn
        self.files: dict[str, File] = {}

    def add(self, *names: str, size: int = LARGE) -> None:
        """Returns once they have turns or wait for them, in this order."""
        for name in names:
            self.files[name] = file = File(self, name, size)
            wait_until(lambda name=name, file=file: name in self.holding or self._waits(file))  # type: ignore[misc]

    def end_turn(self, name: str, *, done: bool = False) -> None:
        """Returns once the file waits for its next turn, has it, or is through."""
        file = self.files[name]
        file.end_turn(done=done)
        if done:
            file.join()
        else:
            wait_until(lambda: name in self.holding or self._waits(file))

    def begin(self, *names: str) -> None:
        """Add long files, and let all of them have their first turn."""
        self.add(*names)
        turns = {name: self.files[name].turn for name in names}
        while first := {name for name, turn in turns.items() if not turn.has_begun or not self._is_further(name)}:
            for name in first & self.holding or list(self.holding):
                self.end_turn(name)

    def _is_further(self, name: str) -> bool:
        return name not in self.holding or self.files[name].turn.is_further

    def hold(self, *names: str) -> bool:
        """Whether exactly these have turns, in a moment."""
        wait_until(lambda: self.holding == set(names))
        return True

    def close(self) -> None:
        for file in self.files.values():
            self.turns.cancel(file.turn)
            file.end_turn(done=True)
        for file in self.files.values():
            file.join()
        assert (self.turns.held, self.turns.processes) == (0, 0)

    def _waits(self, file: File) -> bool:
        return self.turns.is_waiting(file.turn)


@pytest.fixture
def line() -> Iterator[Line]:
    """One place, and the turn for files that have not begun."""
    line = Line(1)
    try:
        yield line
    finally:
        line.close()


def test_a_clip_begins_at_once_however_many_long_files_are_under_way(line: Line) -> None:
    line.begin("a", "b", "c", "d")
    (long,) = line.holding  # the others wait for the only place
    line.add("z", size=1)
    assert line.hold(long, "z")


def test_files_that_have_begun_take_turns_by_client(line: Line) -> None:
    line.begin("a", "b", "c")
    order = []
    for _ in range(9):
        (name,) = line.holding
        order.append(name)
        line.end_turn(name)
        wait_until(lambda: len(line.holding) == 1)
    assert order[:3] == order[3:6] == order[6:]
    assert set(order) == {"a", "b", "c"}


def test_files_that_have_not_begun_come_in_rounds_of_clients_the_smallest_of_each_first(line: Line) -> None:
    line.add("y", "z")
    for name, size in [("a1", 300), ("a2", 100), ("a3", 200), ("b1", 900), ("b2", 800)]:
        line.add(name, size=size)
    last = "z"
    for name in ("a2", "b2", "a3", "b1", "a1"):
        line.end_turn(last, done=True)
        assert line.hold("y", name)
        last = name


def test_a_flood_of_files_that_have_not_begun_keeps_none_that_has_from_its_turns(line: Line) -> None:
    line.add("z")
    for number in range(20):
        line.add(f"{chr(ord('a') + number)}", size=1)
    line.end_turn("z")
    for number in range(1, 9):
        if "z" in line.holding:
            break
        line.end_turn(f"{chr(ord('a') + number)}", done=True)
        wait_until(lambda: len(line.holding) == 2)
    assert "z" in line.holding


def test_a_client_has_no_more_processes_than_places_and_one_for_a_small_upload(line: Line) -> None:
    line.add("a1", "a2")
    assert line.hold("a1")
    line.add("a3", size=SMALL_BYTES)
    assert line.hold("a1", "a3")
    line.end_turn("a1")
    assert line.hold("a1", "a3")
    line.end_turn("a3", done=True)
    assert line.hold("a1")
    line.end_turn("a1", done=True)
    assert line.hold("a2")


def test_a_client_without_a_process_may_always_start_one(line: Line) -> None:
    names = [chr(ord("a") + number) for number in range(20)]
    line.begin(*names)
    assert line.turns.processes == 20


def test_files_share_all_places() -> None:
    line = Line(3)
    line.add("a1", "a2", "a3", "b", "c")
    assert line.hold("a1", "a2", "a3", "b")
    line.end_turn("a1", done=True)
    assert line.hold("a2", "a3", "b", "c")
    line.close()


def test_a_file_that_is_cancelled_while_it_waits_gets_no_turn(line: Line) -> None:
    line.add("a", "b", "c")
    waiting = line.files["c"]
    line.turns.cancel(waiting.turn)
    waiting.join()
    assert isinstance(waiting.error, Cancelled)
    line.end_turn("b", done=True)
    assert line.hold("a")


def test_a_file_that_is_cancelled_between_its_turns_gives_its_process_up(line: Line) -> None:
    line.add("a1", "b")
    line.end_turn("a1")
    line.end_turn("b")
    (holder,) = line.holding
    (waiting,) = {"a1", "b"} - {holder}
    line.turns.cancel(line.files[waiting].turn)
    line.files[waiting].join()
    line.add(f"{waiting[0]}2")
    assert line.hold(holder, f"{waiting[0]}2")


def test_a_turn_that_is_cancelled_before_it_is_asked_for_is_never_granted() -> None:
    turns, turn = Turns(1), Turn("a", 1)
    turns.cancel(turn)
    with pytest.raises(Cancelled), turns.taken(turn):
        raise AssertionError
    with turns.taken(Turn("a", 1)):
        pass


def test_never_more_files_have_turns_than_there_are_places_and_one() -> None:
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
    assert max(most) <= 3
    assert (turns.held, turns.processes) == (0, 0)
