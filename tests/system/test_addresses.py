from ipaddress import ip_network

import pytest

from server.system.addresses import client_network, is_in, is_loopback, parse_address


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "localhost"])
def test_the_loopback_is_known_by_address_and_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "localhost.example", ""])  # noqa: S104
def test_an_address_that_others_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "text", ["", "box", "1.2.3", "1.2.3.4/8", "fe80::1%eth0", "0" * 100, "1.2.3.4 ", "01.2.3.4"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.2.3.4", "1.2.3.4", True),
        ("1.2.3.4", "1.2.3.5", False),
        ("1.2.3.4", "::ffff:1.2.3.4", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("unknown", "unknown", True),
    ],
)
def test_client_is_an_address_or_a_subnet_of_ipv6(one: str, other: str, same: bool) -> None:
    assert (client_network(one) == client_network(other)) is same


def test_address_is_found_in_networks_of_either_kind() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert all(is_in(text, networks) for text in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1"))
    assert not any(is_in(text, networks) for text in ("11.0.0.1", "fe80::1", "10.0.0.0/8", ""))
