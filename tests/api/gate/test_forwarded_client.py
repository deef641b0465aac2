import asyncio
from ipaddress import ip_network

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.api.gate.forwarded_client import ForwardedClient, client_of
from server.api.paths import client_address
from server.system.addresses import Network

PROXY, INNER = "10.0.0.1", "192.168.7.7"
PROXIES: tuple[Network, ...] = (ip_network("10.0.0.0/24"), ip_network("192.168.7.7/32"), ip_network("fd00::/64"))


def seen_by(proxies: tuple[Network, ...], peer: str, *headers: str) -> str:
    """The client's address as the rest of the gate sees it."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(client_address(scope))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError

    scope = {"type": "http", "client": (peer, 5000), "headers": [(b"x-forwarded-for", h.encode()) for h in headers]}
    asyncio.run(ForwardedClient(app, proxies)(scope, receive, send))
    return seen[0]


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("6.6.6.6, 203.0.113.5", "203.0.113.5"),  # the first was made up by the second
        ("203.0.113.5, 10.0.0.2", "203.0.113.5"),
        (f"203.0.113.5,{INNER} , 10.0.0.2", "203.0.113.5"),
        ("203.0.113.5:4711", "203.0.113.5"),
        ("2001:db8::5", "2001:db8::5"),
        ("2001:DB8:0::5", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("[2001:db8::5]:4711, fd00::1", "2001:db8::5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
def test_last_address_that_is_no_proxy_s_is_the_client_s(forwarded: str, client: str) -> None:
    assert seen_by(PROXIES, PROXY, forwarded) == client
    assert seen_by(PROXIES, "::ffff:10.0.0.1", forwarded) == client


def test_lines_of_the_header_are_one_list() -> None:
    assert seen_by(PROXIES, PROXY, "6.6.6.6", "203.0.113.5", "10.0.0.2") == "203.0.113.5"


@pytest.mark.parametrize(
    "forwarded",
    [
        "",
        "unknown",
        "_hidden",
        "x" * 9000,
        "203.0.113.5, unknown",
        "fe80::1%\x1b[31m",
        "1.2.3.4.5",
        "10.0.0.2",
        "[",
        "]",
    ],
)
def test_without_an_address_the_proxy_is_the_client(forwarded: str) -> None:
    assert client_of(forwarded, PROXY, PROXIES) == PROXY


@pytest.mark.parametrize(
    ("proxies", "peer"), [((), "127.0.0.1"), ((), PROXY), (PROXIES, "127.0.0.1"), (PROXIES, "10.0.1.1")]
)
def test_header_of_others_is_ignored(proxies: tuple[Network, ...], peer: str) -> None:
    assert seen_by(proxies, peer, "203.0.113.5") == peer


def test_proxy_without_the_header_is_the_client() -> None:
    assert seen_by(PROXIES, PROXY) == PROXY
