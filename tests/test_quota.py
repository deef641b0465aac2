from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.quota import Quota


def fill(quota: Quota, held: Counter[str], client: str) -> int:
    """Have `client` take as much as it may, one by one; returns how much it holds then."""
    while quota.refusal(held, client, 1) is None:
        held[client] += 1
    return held[client]


def test_a_client_alone_gets_its_share_and_is_then_refused_for_itself() -> None:
    held: Counter[str] = Counter()
    assert fill(Quota.halved(64), held, "a") == 32
    assert Quota.halved(64).refusal(held, "a", 1) == "share"
    assert Quota.halved(64).refusal(held, "b", 1) is None


def test_each_further_client_gets_half_of_what_the_others_leave() -> None:
    held: Counter[str] = Counter()
    assert [fill(Quota.halved(64), held, client) for client in "abcdef"] == [32, 16, 8, 4, 2, 1]
    assert Quota.halved(64).refusal(held, "b", 1) == "full"


@pytest.mark.parametrize("clients", [1, 2, 3, 7, 20])
def test_greedy_clients_that_come_and_go_leave_as_much_as_each_of_them_has(clients: int) -> None:
    """Each gives one back and takes what it may, again and again, as requests that end and are sent anew."""
    quota, held = Quota.halved(840), Counter({str(client): 1 for client in range(clients)})
    for _ in range(840):
        for client in held:
            held[client] -= 1
            fill(quota, held, client)
    left = 840 - held.total()
    assert min(held.values()) >= 840 // (clients + 1) - clients
    assert left >= 840 // (clients + 1) - clients
    assert quota.refusal(held, "modest", 1) is None


def test_a_client_that_holds_nothing_may_have_all_that_is_left() -> None:
    quota = Quota.halved(100)
    assert quota.refusal({"a": 40}, "b", 60) is None
    assert quota.refusal({"a": 40}, "b", 61) == "full"
    assert quota.refusal({"a": 40, "b": 1}, "b", 59) == "share"
    assert quota.refusal({"a": 100}, "b", 1) == "full"


def test_a_share_that_is_set_is_the_client_s_whatever_a_few_others_hold() -> None:
    assert Quota(100, 2).refusal({"a": 1, "b": 90}, "a", 1) is None
    assert Quota(100, 2).refusal({"a": 2}, "a", 1) == "share"
    assert Quota(100, 2).refusal({"a": 1, "b": 97}, "a", 1) == "full"


def test_with_the_whole_as_its_share_a_client_may_fill_it() -> None:
    held: Counter[str] = Counter({"b": 10})
    assert fill(Quota(64, 64), held, "a") == 54


def test_a_client_that_fills_all_there_is_finds_it_full() -> None:
    assert Quota.halved(1).refusal({"a": 1}, "a", 1) == "full"
    assert Quota(64, 64).refusal({"a": 64}, "a", 1) == "full"


def test_the_reserve_is_for_others() -> None:
    quota = Quota.halved(16)
    assert quota.refusal({"a": 14}, "b", 1, reserved=2) == "full"
    assert quota.refusal({"a": 14}, "b", 1) is None


demands = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 40), st.booleans()), max_size=80)


@given(demands, st.integers(8, 200), st.integers(1, 200))
def test_whatever_clients_ask_for_the_total_holds_and_what_is_left_goes_to_one_that_has_nothing(
    demanded: list[tuple[str, int, bool]], total: int, share: int
) -> None:
    quota, held = Quota(total, min(share, total)), Counter[str]()
    for client, amount, gives_back in demanded:
        if gives_back:
            held[client] = 0
        elif quota.refusal(held, client, amount) is None:
            alone = held[client] == 0
            held[client] += amount
            assert alone or held[client] <= quota.share
        assert held.total() <= total
        left = total - held.total()
        assert (quota.refusal(held, "modest", 1) is None) == (left >= 1)
        assert quota.refusal(held, "modest", left) is None
