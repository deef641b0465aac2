"""All open connections: who may open another one, and which one is closed for it.

A connection without a request costs its client nothing, so it is what gives way. One client has at most half of the
connections. This machine has some of its own, so that health checks get through, whatever others hold.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from server.system.addresses import Network, client_network, is_in, is_loopback

LOOPBACK_RESERVE = 16


class Droppable(Protocol):
    """A connection that can be closed in favour of another one."""

    def drop(self) -> None: ...


@dataclass(eq=False, slots=True)
class ClientConnections:
    """The connections of one client; `idle` has those without a request, the longest idle one first."""

    is_exempt: bool
    count: int = 0
    idle: dict[Droppable, None] = field(default_factory=dict)


class ConnectionTable:
    """Counts connections, at most `limit` and a reserve for loopback; half of them for one client.

    A client is an IPv4 address or an IPv6 /64. The limit of one client is not for loopback nor for `proxies`, which
    stand for many.
    """

    def __init__(self, limit: int, proxies: Collection[Network] = ()) -> None:
        self._limit = limit
        self._proxies = proxies
        self._clients: dict[str, ClientConnections] = {}
        self._owners: dict[Droppable, str] = {}
        self._idle: defaultdict[bool, dict[Droppable, None]] = defaultdict(dict)  # by whether the client is exempt

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, connection: Droppable, address: str) -> bool:
        """Count a new connection, idle, and drop another one if that makes room; False if there is no room."""
        name = client_network(address)
        own = self._clients.get(name) or ClientConnections(is_loopback(address) or is_in(address, self._proxies))
        if not own.is_exempt and own.count >= max(1, self._limit // 2) and not self._drop_first(own.idle):
            return False
        limit = self._limit + LOOPBACK_RESERVE * is_loopback(address)
        if len(self) >= limit and not (self._drop_first(self._idle[False]) or self._drop_first(self._idle[True])):
            return False
        own.count += 1
        self._clients[name] = own
        self._owners[connection] = name
        self.set_idle(connection)
        return True

    def set_idle(self, connection: Droppable) -> None:
        """Note that no request of `connection` is under way any more; the next to be dropped comes last."""
        own = self._client(connection)
        if own:
            own.idle[connection] = self._idle[own.is_exempt][connection] = None

    def set_busy(self, connection: Droppable) -> None:
        """Note that a request of `connection` has begun: it isn't dropped now."""
        own = self._client(connection)
        if own:
            own.idle.pop(connection, None)
            self._idle[own.is_exempt].pop(connection, None)

    def remove(self, connection: Droppable) -> None:
        """Forget a connection that was closed; does nothing for one that isn't counted."""
        self.set_busy(connection)
        name = self._owners.pop(connection, None)
        if name is not None:
            self._clients[name].count -= 1
            if not self._clients[name].count:
                del self._clients[name]

    def _client(self, connection: Droppable) -> ClientConnections | None:
        name = self._owners.get(connection)
        return None if name is None else self._clients[name]

    def _drop_first(self, idle: dict[Droppable, None]) -> bool:
        """Close the connection that has been idle for longest; False if there is none."""
        oldest = next(iter(idle), None)
        if oldest is None:
            return False
        self.remove(oldest)
        oldest.drop()
        return True
