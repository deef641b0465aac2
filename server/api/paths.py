"""Which paths lead where: each route has one address, `/v1/...`, and answers at those that clients make of it.

Addresses are rewritten, never redirected: clients that don't follow would lose their upload.
"""

import difflib
import re
from collections.abc import Iterable

from starlette.types import Scope

ENDPOINT = r"(?P<endpoint>/audio/(?:transcriptions(?:/render)?|translations)|/models(?:/.+)?)"
ALIAS = re.compile(rf"(?:/openai)?(?:/v1)?{ENDPOINT}")  # base URLs without /v1; Groq's and Azure's clients
DEPLOYMENT = re.compile(r"/openai/deployments/(?P<model>.+)(?P<endpoint>/audio/(?:transcriptions|translations))")
MISTAKEN = re.compile(rf".*?{ENDPOINT}")  # /v1 twice, a whole endpoint for a base URL
CLOSE = 0.8  # of 1: likely a slip of the fingers

CHECKS = frozenset({"/health", "/ready"})  # for load balancers and container health checks
TRANSCRIBING = frozenset({"/v1/audio/transcriptions", "/v1/audio/translations"})
METRICS = "/metrics"
WATCHED = CHECKS | {METRICS}  # asked for every few seconds for ever
OPEN_PATHS = CHECKS | {"/docs", "/openapi.json"}  # need no key: they say nothing of what anybody does here


def normalized(scope: Scope) -> Scope:
    """`scope` as its route knows it: without slashes too many; HEAD is a GET whose body the server leaves out."""
    path = re.sub("/{2,}", "/", scope["path"]).rstrip("/") or "/"
    entered = {**scope, "path": path, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}
    if found := DEPLOYMENT.fullmatch(path):
        entered["path_params"] = {"model": found["model"]}
    elif not (found := ALIAS.fullmatch(path)):
        return entered
    return {**entered, "path": f"/v1{found['endpoint']}"}


def request_line(scope: Scope) -> tuple[str, str]:
    """Method and path as the client wrote them, still percent-encoded: fit for a log, whatever they hold."""
    path = scope.get("raw_path") or scope["path"].encode("ascii", "replace")
    return scope["method"], path.decode("ascii")[:200]


def client_address(scope: Scope) -> str:
    """Where a request came from."""
    return str((scope.get("client") or ("unknown",))[0])


def suggestion(path: str, known: Iterable[str]) -> str | None:
    """The path that somebody who asked for `path` will have meant, if that is clear."""
    if found := MISTAKEN.fullmatch(path.lower()):
        return f"/v1{found['endpoint']}"
    return next(iter(difflib.get_close_matches(path, known, 1, CLOSE)), None)
