"""Checks the API key of requests that need one."""

from collections.abc import Set

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.gate.guess_limit import ClientKeys, GuessLimit
from server.api.gate.keys import Keys
from server.api.paths import METRICS, client_address
from server.settings import Settings


class KeyCheck:
    """Middleware: raises `Unauthorized` if a required key is missing or wrong, `RateLimited` after many wrong ones;
    routes in `open_paths` need none.

    Sets `state["key_name"]`, empty where no key was needed, and `state["keys"]`, for routes that need an admin
    key.
    """

    def __init__(self, app: ASGIApp, settings: Settings, *, open_paths: Set[str]) -> None:
        self._app = app
        self._open_paths = open_paths
        keys = [key.get_secret_value() for key in settings.api_keys]
        admin_keys = [key.get_secret_value() for key in settings.admin_keys]
        metrics_keys = [f"metrics {settings.metrics_key.get_secret_value()}"] if settings.metrics_key else []
        self._keys = Keys(keys, admin_keys)
        self._metrics_keys = Keys([*keys, *metrics_keys], admin_keys)
        self._guesses = GuessLimit(settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        keys = self._metrics_keys if state["route"] == METRICS else self._keys
        is_open = state["route"] in self._open_paths
        address = client_address(scope)
        state["keys"] = ClientKeys(self._keys, self._guesses, address)
        client_keys = ClientKeys(keys, self._guesses, address)
        state["key_name"] = "" if is_open else client_keys.check(Headers(scope=scope))
        await self._app(scope, receive, send)
