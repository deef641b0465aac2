"""Keeps web pages out of a server without keys: browsers reach it from wherever their user can."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.paths import CHECKS
from server.errors import PermissionDenied
from server.settings import Settings
from server.system.addresses import is_loopback

READING = ("GET", "HEAD")


class WebPages:
    """Middleware: raises `PermissionDenied` for requests of pages that may not use this server, if it has no keys.

    A server that listens on loopback also rejects foreign names in `Host`: a page can have its own name lead there
    (DNS rebinding), and is then of the same origin. Probes are exempt: they tell no more than the version.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._is_open = not settings.api_keys
        self._on_loopback = is_loopback(settings.host)
        self._origins = settings.origins
        self._hosts = {host.casefold() for host in settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_open and scope["path"] not in CHECKS:
            headers = Headers(scope=scope)
            self._check_host(scope, headers)
            self._check_page(scope, headers)
        await self._app(scope, receive, send)

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        server = scope.get("server")
        if not (self._on_loopback and server and is_loopback(str(server[0]))):
            return
        name = _name(headers.get("host", ""))
        if name and not is_loopback(name) and not self._hosts & {name, "*"}:
            raise PermissionDenied(
                f"Without keys this server does not answer to the name '{name[:100]}': its administrator can allow "
                "that (SOTTO_ALLOWED_HOSTS) or set keys (SOTTO_API_KEYS)."
            )

    def _check_page(self, scope: Scope, headers: Headers) -> None:
        if "*" in self._origins:
            return
        origin = headers.get("origin")
        if origin is None:
            is_link = scope["method"] in READING and headers.get("sec-fetch-mode") == "navigate"
            is_foreign = headers.get("sec-fetch-site") == "cross-site" and not is_link
        else:
            is_foreign = origin not in self._origins and not _is_own(origin, headers.get("host", ""))
        if is_foreign:
            raise PermissionDenied(
                f"Without keys this server does not answer pages of {(origin or 'other sites')[:100]}: its "
                "administrator can allow them (SOTTO_CORS_ORIGINS) or set keys (SOTTO_API_KEYS)."
            )


def _is_own(origin: str, host: str) -> bool:
    """Whether a page of `origin` comes from the address to which it sends; a proxy may add TLS."""
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.casefold() == host.casefold() != ""


def _name(host: str) -> str:
    """The name or address in a Host header, without port, brackets and the root's dot."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.strip().rstrip(".").casefold()
