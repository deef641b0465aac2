import pytest

from server.system.addresses import is_loopback

LOOPBACK = ["127.0.0.1", "127.8.9.1", "::1", "localhost"]
OTHERS = ["0.0.0.0", "::", "192.168.1.2", "localhost.example", ""]  # noqa: S104


@pytest.mark.parametrize("host", [*LOOPBACK, *OTHERS])
def test_only_this_machine_is_the_loopback(host: str) -> None:
    assert is_loopback(host) is (host in LOOPBACK)
