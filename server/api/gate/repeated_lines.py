"""Keeps clients without a valid key from filling the log."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from server.system.addresses import client_network, is_loopback

INTERVAL_S = 1.0
CLIENTS = 4096  # that are remembered


@dataclass(slots=True)
class LastLine:
    at_s: float
    left_out: int = 0  # since then


class RepeatedLines:
    """Lets one line per client and second through; a client is an IPv4 address or an IPv6 /64. This machine's own
    are all let through."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._last: OrderedDict[str, LastLine] = OrderedDict()

    def left_out_before(self, address: str) -> int | None:
        """Return how many lines were left out since the client's last one; None if this one is to be, too."""
        if is_loopback(address):
            return 0
        client = client_network(address)
        last = self._last.get(client)
        if last and self._now_s() - last.at_s < INTERVAL_S:
            last.left_out += 1
            return None
        self._last[client] = LastLine(self._now_s())
        self._last.move_to_end(client)
        if len(self._last) > CLIENTS:
            self._last.popitem(last=False)
        return last.left_out if last else 0
