"""Network addresses: which ones only this machine can reach."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether `host`, an address or a name, is this machine's loopback interface. Asks no resolver."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
