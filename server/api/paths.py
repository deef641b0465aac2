"""Maps paths to routes: each route has one address, `/v1/...`, and accepts the variants that clients use.

Paths are rewritten, never redirected: a client that doesn't follow redirects would lose its upload.
"""

import difflib
import re
from collections.abc import Iterable

from starlette.types import Scope

ENDPOINT = r"(?P<endpoint>/audio/(?:transcriptions(?:/render)?|translations)|/models(?:/.+)?)"
ALIAS = re.compile(rf"(?:/openai)?(?:/v1)?{ENDPOINT}")  # base URLs without /v1; Groq's and Azure's clients
DEPLOYMENT = re.compile(r"/openai/deployments/(?P<model>.+)(?P<endpoint>/audio/(?:transcriptions|translations))")
# /v1 twice, or a whole endpoint as the base URL. Without DOTALL, a newline would make every start fail, each late.
MISTAKEN = re.compile(rf".*?{ENDPOINT}", re.DOTALL)
CLOSE = 0.8  # similarity from 0 to 1: likely a typing error

CHECKS = frozenset({"/health", "/ready"})  # for load balancers and container health checks
TRANSCRIBING = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
METRICS = "/metrics"
WATCHED = CHECKS | {METRICS}  # polled every few seconds
OPEN_PATHS = CHECKS | {"/docs", "/openapi.json"}  # need no key: they reveal nothing about the use of this server


def normalized(scope: Scope) -> Scope:
    """Return `scope` with its route's path, without extra slashes; HEAD becomes GET, whose body the server
    omits."""
    path = re.sub("/{2,}", "/", scope["path"]).rstrip("/") or "/"
    entered = {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
    if found := DEPLOYMENT.fullmatch(path):
        entered["path_params"] = {"model": found["model"]}
    elif not (found := ALIAS.fullmatch(path)):
        return entered
    return {**entered, "path": f"/v1{found['endpoint']}"}


def request_line(scope: Scope) -> tuple[str, str]:
    """Return method and path as the client wrote them, still percent-encoded and therefore safe in a log."""
    path = scope.get("raw_path") or scope["path"].encode("ascii", "replace")
    return scope["method"], path.decode("ascii")[:200]


def client_address(scope: Scope) -> str:
    """Return the address of the client."""
    return str((scope.get("client") or ("unknown",))[0])


def suggestion(path: str, known: Iterable[str]) -> str | None:
    """Return the known path that a client probably meant by `path`, if there is one."""
    if found := MISTAKEN.fullmatch(path.lower()):
        return f"/v1{found['endpoint']}"
    return next(iter(difflib.get_close_matches(path, known, 1, CLOSE)), None)
