import pytest

from server.system.addresses import is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_the_loopback_is_known_by_address_and_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "localhost.example", ""])  # noqa: S104
def test_an_address_that_others_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)
