"""Slows down clients that guess keys, without locking out those that have one."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import partial
from typing import TypeVar

from starlette.datastructures import Headers

from server.api.gate.keys import Keys
from server.errors import RateLimited, Unauthorized
from server.system.addresses import Network, client_network, is_in, is_loopback

GUESSES = 10  # wrong keys that one client may send in a row
GUESS_S = 5.0  # time after which it may send one more
CLIENTS = 4096  # that are remembered, those that sent a wrong key and those that sent a valid one
WRONG_KEYS = "Too many incorrect API keys came from your address. Please try again in {seconds}s."

Value = TypeVar("Value")


class GuessLimit:
    """Limits wrong keys by client: an IPv4 address or an IPv6 /64. Loopback and `proxies`, which stand for many,
    have no limit.

    Above the limit a client can't find out whether a key is valid: every key gets the same answer, except for keys
    that it has used before. So a stranger behind the same address does not keep others out. Only valid keys are
    remembered there, so wrong ones can't displace them.
    """

    def __init__(self, proxies: Collection[Network] = (), *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._proxies = proxies
        self._now_s = now_s
        self._free_s: OrderedDict[str, float] = OrderedDict()  # when all guesses are available again
        self._used: OrderedDict[str, set[str]] = OrderedDict()  # names of valid keys

    def limited(self, address: str, check: Callable[[], str]) -> str:
        """Return the name of the key that `check` returns. Raises what it raises, or `RateLimited`."""
        if is_loopback(address) or is_in(address, self._proxies):
            return check()
        client = client_network(address)
        try:
            name = check()
        except Unauthorized as error:
            if error.code:  # a wrong key; one without any is no guess
                self._count(client)
            raise
        if name not in self._used.get(client, ()):
            self._demand(client)
        _kept(self._used, client, self._used.get(client, set()) | {name})
        return name

    def _count(self, client: str) -> None:
        self._demand(client)
        _kept(self._free_s, client, max(self._free_s.get(client, 0.0), self._now_s()) + GUESS_S)

    def _demand(self, client: str) -> None:
        """Raise `RateLimited` if the client has no guess left."""
        wait_s = self._free_s.get(client, 0.0) - self._now_s() - (GUESSES - 1) * GUESS_S
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            raise RateLimited(WRONG_KEYS.format(seconds=seconds), retry_after_s=seconds)


class ClientKeys:
    """The keys of this server, as the client at `address` may try them."""

    def __init__(self, keys: Keys, guesses: GuessLimit, address: str) -> None:
        self._keys = keys
        self._guesses = guesses
        self._address = address

    def check(self, headers: Headers) -> str:
        """As `Keys.check`. Raises `RateLimited` too, but not where no key is needed: clients then send any."""
        if not self._keys.required:
            return self._keys.check(headers)
        return self._guesses.limited(self._address, partial(self._keys.check, headers))

    def is_admin(self, headers: Headers) -> bool:
        """As `Keys.is_admin`."""
        return self._keys.is_admin(headers)

    def check_admin(self, headers: Headers) -> None:
        """As `Keys.check_admin`. Raises `RateLimited` too."""
        self._guesses.limited(self._address, partial(self._keys.check_admin, headers))


def _kept(entries: OrderedDict[str, Value], client: str, value: Value) -> None:
    """Set an entry; the one that was set the longest time ago may make room for it."""
    entries[client] = value
    entries.move_to_end(client)
    if len(entries) > CLIENTS:
        entries.popitem(last=False)
