"""CORS: which web pages may read this server's responses.

Browsers send a preflight without the key first, and hide each response that doesn't name the page's origin,
errors and event streams included. CORS stops neither requests nor other programs: keys do. Starlette's middleware
is not used: it answers what it doesn't allow with a text of its own, outside OpenAI's envelope.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Scripts can read only the headers listed here.
EXPOSED = "X-Request-ID, OpenAI-Processing-Ms, Retry-After, X-Should-Retry, X-Sotto-Model"
PREFLIGHT_S = 7200  # the longest that Chromium caches a preflight
VARY = (
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network"
)


class Cors:
    """Middleware: answers preflights, and adds the CORS headers for the origin to every response.

    `origins` is `*`, a comma-separated list, or `none`, which leaves browsers to the same-origin rule.
    """

    def __init__(self, app: ASGIApp, origins: str, *, has_keys: bool) -> None:
        self._app = app
        self._origins = {origin.strip() for origin in origins.split(",")} - {"none"}
        # Without a key, no page of the internet may reach into a private network that browsers protect.
        self._private_network = has_keys or "*" not in self._origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        added = self._headers(headers.get("origin", ""))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in added.items():
                    answer.setdefault(name, value)
            await send(message)

        app = self._preflight(headers) if self._is_preflight(scope["method"], headers) else self._app
        await app(scope, receive, with_headers)

    def _headers(self, origin: str) -> dict[str, str]:
        """Return the CORS headers of every response to a page of `origin`."""
        allowed = {"access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED}
        if "*" in self._origins:
            return allowed
        vary = {"vary": "Origin"} if self._origins else {}
        return {**allowed, **vary, "access-control-allow-origin": origin} if origin in self._origins else vary

    def _is_preflight(self, method: str, headers: Headers) -> bool:
        return bool(self._origins) and method == "OPTIONS" and "access-control-request-method" in headers

    def _preflight(self, asked: Headers) -> Response:
        """Allow everything that the preflight asks for, by name: `*` would not cover `Authorization`."""
        headers = {
            "access-control-allow-methods": asked["access-control-request-method"],
            "access-control-max-age": str(PREFLIGHT_S),
            "vary": VARY,
        }
        if "access-control-request-headers" in asked:
            headers["access-control-allow-headers"] = asked["access-control-request-headers"]
        if self._private_network and "access-control-request-private-network" in asked:
            headers["access-control-allow-private-network"] = "true"
        return Response(status_code=204, headers=headers)
