import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from server.audio.spool_budget import SpoolAccount, SpoolBudget
from server.errors import RateLimited, Unavailable
from server.quota import Quota
from tests.support.fakes import DEADLINE_S, wait_until


class Disk:
    """Room for 1000 bytes, half of it for one client, and files that wait for room in threads."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self.budget = SpoolBudget(Quota.halved(1000))
        self._threads = threads

    def file(self, client: str, size: int = 0) -> SpoolAccount:
        account = SpoolAccount(client)
        self.budget.open(account)
        self.budget.grow(account, size)
        return account

    def reserve(self, account: SpoolAccount, size: int) -> Future[None]:
        return self._threads.submit(self.budget.reserve, account, size)

    def waiting(self, account: SpoolAccount, size: int) -> Future[None]:
        future = self.reserve(account, size)
        wait_until(lambda: account.is_waiting)
        assert not future.done()
        return future


@pytest.fixture
def disk() -> Iterator[Disk]:
    with ThreadPoolExecutor(4) as threads:
        yield Disk(threads)


def test_a_file_of_a_client_beyond_its_share_waits_until_another_of_its_files_is_through(disk: Disk) -> None:
    first, second = disk.file("a", 400), disk.file("a", 50)
    waiting = disk.waiting(second, 101)
    disk.budget.close(disk.file("b", 300))  # of no use to it
    disk.budget.close(first)
    waiting.result(DEADLINE_S)
    assert disk.budget.held_bytes() == {"a": 101}


def test_where_all_files_of_a_client_wait_for_each_other_the_last_one_fails_and_the_others_go_on(
    disk: Disk,
) -> None:
    first, second, other = disk.file("a", 300), disk.file("a", 200), disk.file("b", 100)
    waiting = disk.waiting(first, 400)
    with pytest.raises(RateLimited, match=r"bytes of decoded audio\. Limit: 500"):
        disk.reserve(second, 300).result(DEADLINE_S)
    assert not waiting.done()
    disk.budget.reserve(other, 200)  # no concern of this client's
    disk.budget.close(second)
    waiting.result(DEADLINE_S)


def test_a_client_s_only_file_may_have_all_that_the_others_leave(disk: Disk) -> None:
    disk.file("a", 400)
    only = disk.file("b", 0)
    disk.budget.reserve(only, 600)
    with pytest.raises(Unavailable, match="no space left"):
        disk.budget.grow(only, 601)


def test_room_that_others_fill_is_waited_for_while_they_may_free_it(disk: Disk) -> None:
    first, only = disk.file("a", 700), disk.file("b", 200)
    waiting = disk.waiting(only, 400)
    disk.budget.close(first)
    waiting.result(DEADLINE_S)


def test_where_everybody_waits_the_last_one_fails(disk: Disk) -> None:
    first, second = disk.file("a", 500), disk.file("b", 400)
    waiting = disk.waiting(first, 700)
    with pytest.raises(Unavailable, match="no space left"):
        disk.reserve(second, 600).result(DEADLINE_S)
    disk.budget.close(second)
    waiting.result(DEADLINE_S)


def test_a_file_that_is_cancelled_waits_no_longer(disk: Disk) -> None:
    disk.file("a", 400)
    second = disk.file("a", 50)
    waiting = disk.waiting(second, 200)
    disk.budget.cancel(second)
    waiting.result(DEADLINE_S)


def test_what_was_reserved_and_is_not_needed_comes_back(disk: Disk) -> None:
    file = disk.file("a", 10)
    disk.budget.reserve(file, 500)
    disk.budget.grow(file, 20)
    assert disk.budget.used_bytes == 500
    disk.budget.settle(file, 20)
    assert disk.budget.used_bytes == 20


def test_many_files_that_grow_at_once_never_hold_more_than_the_total() -> None:
    """Of those that fail, each had at least begun; all others get through."""
    budget, ended, lock = SpoolBudget(Quota.halved(1000)), list[str](), threading.Lock()
    over: list[int] = []

    def decode(number: int) -> None:
        account = SpoolAccount(f"client {number % 5}")
        budget.open(account)
        try:
            for size in range(10, 300, 10):
                budget.reserve(account, size)
                with lock:
                    over.append(budget.used_bytes)
            end = "done"
        except (RateLimited, Unavailable):
            end = "refused"
        budget.close(account)
        ended.append(end)

    with ThreadPoolExecutor(25) as threads:
        list(threads.map(decode, range(100)))
    assert len(ended) == 100
    assert "done" in ended
    assert max(over) <= 1000
    assert budget.used_bytes == 0
