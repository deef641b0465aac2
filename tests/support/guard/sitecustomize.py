"""Keeps a Python process on this machine: what it tries beyond is refused, and noted in the file OUTSIDE_LOG names.

`tests/conftest.py` installs it in the test run and puts this folder on PYTHONPATH, so that Python children import
it by its name when they start. It sees what goes through Python's sockets: not those of C libraries, and none of
the server's own children, which get a clean environment (media workers may open no socket, engines have
HF_HUB_OFFLINE).
"""

import ipaddress
import os
import socket
import sys
from typing import Any

LOG = "OUTSIDE_LOG"
CONNECTING = ("socket.connect", "socket.sendto")
LOOKING_UP = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
INTERNET = (socket.AF_INET, socket.AF_INET6)
RESERVED = (".invalid", ".test", ".example")  # by RFC 2606 there is no such host


def refuse_outside(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: raises OSError where a socket is about to reach another machine."""
    if event in CONNECTING and arguments[0].family in INTERNET:
        host = arguments[1][0]
        allowed = _is_here(host)
    elif event in LOOKING_UP:
        host = arguments[0]
        allowed = _is_here(host) or _address(host) is not None  # to look up an address asks nobody
    else:
        return
    if not allowed:
        _note(event, str(host))
        raise socket.gaierror(socket.EAI_NONAME, f"the tests' guard refuses to contact {host}")


def _is_here(host: object) -> bool:
    address = _address(host)
    return (
        not host or host == "localhost" or (address is not None and (address.is_loopback or address.is_unspecified))
    )


def _address(host: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return None


def _note(event: str, host: str) -> None:
    if LOG in os.environ and not host.endswith(RESERVED):
        with open(os.environ[LOG], "a") as log:
            log.write(f"{os.getpid()} {event} {host}\n")


if __name__ == "sitecustomize":
    sys.addaudithook(refuse_outside)
