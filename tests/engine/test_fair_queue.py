"""The queue's promises: fair between requests, no class starves, batches of equal keys, bounded, closable."""

import re
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import pytest

from server.engine import fair_queue
from server.engine.fair_queue import BULK_EVERY, FairQueue
from server.errors import QueueFull, Unavailable
from server.options import Priority
from tests.support.fakes import wait_until

DEADLINE_S = 60.0


@dataclass(eq=False)
class Thing:
    """The smallest item."""

    request: str
    name: str = ""
    priority: Priority = "bulk"
    key: Hashable = "key"
    wanted: bool = True

    def begin(self) -> bool:
        return self.wanted


def things(request: str, count: int, priority: Priority = "bulk", key: Hashable = "key") -> list[Thing]:
    return [Thing(request, f"{request}{number}", priority, key) for number in range(count)]


def queue_of(
    *items: Thing, mix_classes: bool = False, spread: bool = False, capacity: int = 100
) -> FairQueue[Thing]:
    queue: FairQueue[Thing] = FairQueue(capacity, mix_classes=mix_classes, spread=spread, batch_wait_s=0.0)
    for item in items:
        queue.put(item)
    return queue


def take(queue: FairQueue[Thing], limit: int) -> list[str]:
    batch = queue.next_batch(lambda _: limit)
    assert batch is not None
    return [item.name for item in batch.items]


def drain(queue: FairQueue[Thing], limit: int) -> list[list[str]]:
    batches = []
    while len(queue):
        batches.append(take(queue, limit))
    return batches


def test_requests_share_a_batch_in_turn() -> None:
    queue = queue_of(*things("a", 5), *things("b", 2))
    assert drain(queue, 3) == [["a0", "b0", "a1"], ["b1", "a2", "a3"], ["a4"]]


def test_a_long_request_gets_one_place_per_round_beside_many() -> None:
    queue = queue_of(*things("long", 50), *(Thing(name, name) for name in "xyz"))
    assert take(queue, 4) == ["long0", "x", "y", "z"]


def test_interactive_goes_first_and_is_not_filled_with_bulk() -> None:
    queue = queue_of(*things("bulk", 3), *things("quick", 1, "interactive"))
    assert take(queue, 4) == ["quick0"]


def test_an_interactive_batch_is_filled_with_bulk_if_classes_mix() -> None:
    queue = queue_of(*things("bulk", 3), *things("quick", 1, "interactive"), mix_classes=True)
    assert take(queue, 3) == ["quick0", "bulk0", "bulk1"]


def test_bulk_gets_every_fourth_batch_under_steady_interactive_load() -> None:
    queue = queue_of(*things("bulk", 3), *things("quick", 40, "interactive"))
    takes = [queue.next_batch(lambda _: 1) for _ in range(3 * BULK_EVERY)]
    classes = [batch.priority for batch in takes if batch]
    assert classes == ["interactive", "interactive", "interactive", "bulk"] * 3
    assert [batch.is_bulk_turn for batch in takes if batch] == [False, False, False, True] * 3


def test_bulk_may_step_back_unless_it_was_its_turn() -> None:
    queue = queue_of(*things("long", 2 * BULK_EVERY))
    takes = [queue.next_batch(lambda _: 1) for _ in range(2 * BULK_EVERY)]
    assert not any(batch.is_bulk_turn for batch in takes if batch)


def test_a_batch_holds_one_key_and_the_rest_keeps_its_place() -> None:
    queue = queue_of(Thing("a", "a", key=1), Thing("b", "b", key=2), Thing("c", "c", key=1))
    assert drain(queue, 8) == [["a", "c"], ["b"]]


def test_the_example_in_the_docstring_is_true() -> None:
    queue = queue_of(
        Thing("C", "c1", "interactive"),
        *(Thing("A", f"a{number}") for number in range(1, 6)),
        *(Thing("B", f"b{number}") for number in (1, 2)),
    )
    taken = [take(queue, 4), take(queue, 4)]
    queue.requeue([Thing("B", "b2", key="the next temperature")])
    queue.put(Thing("C", "c2", "interactive"))
    taken += [take(queue, 4) for _ in range(3)]
    example = re.findall(r"batch \d +\[(.*)\]", str(fair_queue.__doc__))
    assert taken == [names.split() for names in example]
    assert len(example) == 5


def test_unwanted_items_are_dropped() -> None:
    queue = queue_of(Thing("a", "a", wanted=False), Thing("b", "b"), Thing("c", "c", wanted=False))
    assert take(queue, 8) == ["b"]
    assert len(queue) == 0


def test_requeued_items_go_to_the_front_in_their_order() -> None:
    queue = queue_of(*things("a", 3), *things("b", 1))
    batch = queue.next_batch(lambda _: 2)
    assert batch is not None
    assert queue.requeue(batch.items)
    assert take(queue, 4) == ["a0", "b0", "a1", "a2"]


def test_removed_requests_are_handed_out_and_gone() -> None:
    queue = queue_of(*things("a", 2), *things("b", 1))
    assert [item.name for item in queue.remove("a")] == ["a0", "a1"]
    assert drain(queue, 8) == [["b0"]]


def test_the_position_counts_the_requests_scheduled_before() -> None:
    queue = queue_of(*things("a", 3), *things("b", 1), *things("c", 2), *things("quick", 2, "interactive"))
    assert [queue.ahead(request) for request in ("quick", "a", "b", "c")] == [0, 1, 2, 3]
    assert queue.ahead("not here yet") == 4
    assert take(queue, 2) == ["quick0", "quick1"]
    assert take(queue, 1) == ["a0"]
    assert [queue.ahead(request) for request in ("b", "c", "a", "quick")] == [0, 1, 2, 3]
    assert queue_of().ahead("a") == 0


def test_a_full_queue_refuses_but_takes_back() -> None:
    queue = queue_of(*things("a", 2), capacity=2)
    with pytest.raises(QueueFull):
        queue.put(Thing("b"))
    assert queue.requeue([Thing("c", "c")])
    assert len(queue) == 3


def test_a_closed_queue_accepts_nothing_and_returns_the_rest() -> None:
    queue = queue_of(*things("a", 2))
    assert [item.name for item in queue.close()] == ["a0", "a1"]
    assert not queue.requeue([Thing("a")])
    assert queue.next_batch(lambda _: 1) is None
    with pytest.raises(Unavailable):
        queue.put(Thing("b"))


def test_closing_wakes_a_waiting_worker() -> None:
    queue = queue_of()
    ended = threading.Event()

    def work() -> None:
        queue.next_batch(lambda _: 1)
        ended.set()

    worker = threading.Thread(target=work)
    worker.start()
    queue.close()
    assert ended.wait(DEADLINE_S)
    worker.join(DEADLINE_S)


def test_an_idle_worker_waits_to_fill_a_batch_and_a_busy_one_does_not() -> None:
    queue: FairQueue[Thing] = FairQueue(100, mix_classes=False, batch_wait_s=DEADLINE_S)
    got: list[Sequence[str]] = []
    worker = threading.Thread(target=lambda: got.append(take(queue, 2)))
    worker.start()
    queue.put(Thing("a", "a"))
    queue.put(Thing("b", "b"))  # the batch is full: it goes long before company_s is over
    worker.join(DEADLINE_S / 2)
    assert got == [["a", "b"]]
    queue.put(Thing("c", "c"))
    assert take(queue, 2) == ["c"]  # something was there at once: no wait, or this test takes ten seconds


def test_an_empty_queue_gives_an_empty_batch_after_a_while() -> None:
    batch = queue_of().next_batch(lambda _: 1, idle_s=0.01)
    assert batch is not None
    assert batch.items == []


@pytest.mark.parametrize(("spread", "sizes"), [(True, [2, 3]), (False, [5])])
def test_idle_workers_divide_the_waiting_items_if_wanted(spread: bool, sizes: list[int]) -> None:
    queue = queue_of(spread=spread)
    took: list[int] = []

    def work() -> None:
        if batch := queue.next_batch(lambda _: 8):
            took.append(len(batch.items))

    takers = [threading.Thread(target=work) for _ in range(2)]
    for taker in takers:
        taker.start()
    wait_until(lambda: queue._idle == 2)
    queue.requeue(things("a", 5))  # all at once
    wait_until(lambda: sum(took) == 5)
    queue.close()
    for taker in takers:
        taker.join(DEADLINE_S)
    assert sorted(took) == sizes


def test_a_busy_worker_leaves_no_items_for_other_busy_workers() -> None:
    assert drain(queue_of(*things("a", 5), spread=True), 4) == [[f"a{n}" for n in range(4)], ["a4"]]
