"""Takes the client's address from X-Forwarded-For, if a trusted proxy has sent the request."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.paths import client_address
from server.system.addresses import Network, is_in, parse_address


class ForwardedClient:
    """Middleware: sets `client` to the address that `proxies` give; requests of others keep their own."""

    def __init__(self, app: ASGIApp, proxies: Collection[Network]) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = client_address(scope)
        if is_in(peer, self._proxies):
            forwarded = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
            scope = {**scope, "client": (client_of(forwarded, peer, self._proxies), 0)}
        await self._app(scope, receive, send)


def client_of(forwarded: str, peer: str, proxies: Collection[Network]) -> str:
    """Return the last address in `forwarded` that is no proxy's: each proxy appends the one that it was asked by.

    What precedes that comes from the client, and may be made up. Returns `peer` if there is no such address.
    """
    for entry in reversed(forwarded.split(",")):
        address = parse_address(_without_port(entry.strip()))
        if address is None:
            return peer
        if not is_in(str(address), proxies):
            return str(address)
    return peer


def _without_port(entry: str) -> str:
    """Some proxies write `192.0.2.1:5000`, `[2001:db8::1]` or `[2001:db8::1]:5000`."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
