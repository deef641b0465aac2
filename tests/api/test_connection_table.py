from ipaddress import ip_network

import pytest

from server.api.connection_table import LOOPBACK_RESERVE, ConnectionTable

LIMIT = 8


class Link:
    """A connection that notes that it was dropped."""

    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def added(table: ConnectionTable, address: str, *, busy: bool = False) -> Link:
    link = Link()
    assert table.add(link, address)
    if busy:
        table.set_busy(link)
    return link


def filled(table: ConnectionTable, count: int, *, busy: bool = False) -> list[Link]:
    """As many connections, each of another address."""
    return [added(table, f"198.51.100.{number}", busy=busy) for number in range(count)]


def test_longest_idle_connection_gives_way() -> None:
    table = ConnectionTable(LIMIT)
    links = filled(table, LIMIT)
    table.set_busy(links[0])
    table.set_idle(links[0])  # after a request: it is the last now
    table.set_busy(links[1])
    added(table, "203.0.113.1")
    assert [link.dropped for link in links] == [False, False, True, *[False] * (LIMIT - 3)]
    assert len(table) == LIMIT


def test_without_an_idle_connection_a_new_one_is_refused() -> None:
    table = ConnectionTable(LIMIT)
    links = filled(table, LIMIT, busy=True)
    assert not table.add(Link(), "203.0.113.1")
    table.set_idle(links[3])
    added(table, "203.0.113.1")
    assert [link.dropped for link in links].index(True) == 3


def test_connection_that_ends_leaves_its_place() -> None:
    table = ConnectionTable(LIMIT)
    links = filled(table, LIMIT, busy=True)
    table.remove(links[0])
    table.remove(links[0])
    added(table, "203.0.113.1", busy=True)
    assert not table.add(Link(), "203.0.113.1")
    for link in links:
        table.remove(link)
    assert len(table) == 1


@pytest.mark.parametrize(
    "addresses", [["203.0.113.1"], ["203.0.113.1", "::ffff:203.0.113.1"], ["2001:db8::1", "2001:db8::2"]]
)
def test_one_client_has_half_and_its_own_give_way(addresses: list[str]) -> None:
    table = ConnectionTable(LIMIT)
    others = filled(table, 2)
    links = [added(table, addresses[n % len(addresses)]) for n in range(LIMIT // 2)]
    added(table, addresses[-1])
    assert [link.dropped for link in links] == [True, *[False] * (LIMIT // 2 - 1)]
    assert not any(link.dropped for link in others)


def test_client_with_busy_connections_only_is_refused_at_half() -> None:
    table = ConnectionTable(LIMIT)
    for _ in range(LIMIT // 2):
        added(table, "203.0.113.1", busy=True)
    assert not table.add(Link(), "203.0.113.1")
    added(table, "203.0.113.2", busy=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.7", "::ffff:10.0.0.7"])
def test_this_machine_and_proxies_may_have_all(address: str) -> None:
    table = ConnectionTable(LIMIT, [ip_network("10.0.0.0/8")])
    for _ in range(LIMIT):
        added(table, address, busy=True)
    assert not table.add(Link(), "203.0.113.2")


def test_connections_of_strangers_give_way_before_those_of_proxies() -> None:
    table = ConnectionTable(LIMIT, [ip_network("10.0.0.0/8")])
    proxies = [added(table, "10.0.0.7") for _ in range(LIMIT - 1)]
    stranger = added(table, "203.0.113.1")
    added(table, "203.0.113.2", busy=True)
    assert stranger.dropped
    assert not any(link.dropped for link in proxies)
    added(table, "203.0.113.3")
    assert [link.dropped for link in proxies] == [True, *[False] * (LIMIT - 2)]


def test_this_machine_gets_through_a_full_table() -> None:
    table = ConnectionTable(LIMIT)
    filled(table, LIMIT, busy=True)
    for _ in range(LOOPBACK_RESERVE):
        added(table, "127.0.0.1", busy=True)
    assert not table.add(Link(), "127.0.0.1")


def test_single_connection_may_be_all_there_is() -> None:
    table = ConnectionTable(1)
    first = added(table, "203.0.113.1")
    second = added(table, "203.0.113.1")
    assert (first.dropped, second.dropped) == (True, False)
    added(table, "203.0.113.2")
    assert second.dropped
    assert len(table) == 1
