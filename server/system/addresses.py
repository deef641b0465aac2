"""Network addresses: parses them, detects loopback, and tells which belong to one client."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
LONGEST = 45  # characters of an address
SUBNET_BITS = 64  # of IPv6: what one customer gets at least


def parse_address(text: str) -> Address | None:
    """Return the address in `text`, IPv4 also where it is written as IPv6; None if it is none."""
    try:
        address = ip_address(text) if len(text) <= LONGEST and "%" not in text else None
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_loopback(host: str) -> bool:
    """True if `host`, an address or a name, is this machine's loopback interface. Does no name resolution."""
    address = parse_address(host)
    return address.is_loopback if address else host == "localhost"


def is_in(text: str, networks: Iterable[Network]) -> bool:
    """True if `text` is an address in one of `networks`."""
    address = parse_address(text)
    return address is not None and any(address in network for network in networks)


def client_network(text: str) -> str:
    """Return what one client is known by: its address, or the /64 that an IPv6 address is in."""
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, SUBNET_BITS), strict=False))
    return str(address or text)
