"""Network addresses: detects loopback."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """True if `host`, an address or a name, is this machine's loopback interface. Does no name resolution."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
