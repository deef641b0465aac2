from collections.abc import Iterable

from server.engine.messages import Submit
from server.engine.pending import PendingWindows
from server.options import DecodingOptions
from tests.support.fakes import make_window


def pending_of(*requests: str) -> PendingWindows:
    pending = PendingWindows()
    for index, request in enumerate(requests):
        pending.add(make_window(index), DecodingOptions(), request, "bulk")
    return pending


def numbers(messages: Iterable[Submit]) -> list[int]:
    return [message.number for message in messages]


def test_each_window_is_sent_once() -> None:
    pending = pending_of("a", "b")
    assert numbers(pending.send_next()) == [0, 1]
    assert numbers(pending.send_next()) == []


def test_after_a_crash_suspects_are_sent_first_and_alone() -> None:
    pending = pending_of("a", "b", "c")
    pending.send_next()
    assert pending.take_back(running=[1]) == []
    assert numbers(pending.send_next()) == [1]
    assert numbers(pending.send_next()) == []
    pending.pop([1])
    assert numbers(pending.send_next()) == [0, 2]


def test_a_window_that_ran_in_two_crashes_is_named() -> None:
    pending = pending_of("a", "b")
    pending.send_next()
    pending.take_back(running=[0])
    pending.send_next()
    assert pending.take_back(running=[0]) == [0]


def test_if_no_window_is_known_to_have_run_all_sent_are_suspects() -> None:
    pending = pending_of("a", "b")
    pending.send_next()
    pending.take_back(running=())
    assert numbers(pending.send_next()) == [0]


def test_the_windows_of_a_request_are_taken_out_together() -> None:
    pending = pending_of("a", "b", "a")
    assert numbers(each.message for each in pending.pop_request("a")) == [0, 2]
    assert (len(pending), pending.numbers(), pending.requests([0, 1])) == (1, [1], {"b"})
