"""API keys: which are let in, under which names, and where clients put theirs."""

import base64
import hmac
from collections.abc import Iterable, Iterator

from starlette.datastructures import Headers

from server.errors import Unauthorized


class Keys:
    """The keys of this server; without any, it is open."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Each of `keys` may have a name before it; those that share one count as the same client's."""
        split = [key.rpartition(" ") for key in keys]
        self._keys = [(name.strip() or f"key {n}", key.encode()) for n, (name, _, key) in enumerate(split, 1)]

    def check(self, headers: Headers) -> str:
        """The name of the key that a request came with, empty where none is needed. Raises `Unauthorized`."""
        if not self._keys:
            return ""
        offered = [key for key in _offered(headers) if key]
        if not offered:
            raise Unauthorized(
                "You didn't provide an API key. You need to provide your API key in an Authorization header "
                "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        if name := next(filter(None, map(self._name, offered)), None):
            return name
        raise Unauthorized(f"Incorrect API key provided: {_masked(offered[0])}.", code="invalid_api_key")

    def _name(self, given: str) -> str | None:
        # Every key is compared, and each in constant time: the answer's delay tells nothing about any.
        found = [name for name, key in self._keys if hmac.compare_digest(given.encode(), key)]
        return found[0] if found else None


def _offered(headers: Headers) -> Iterator[str]:
    """What may be the key: Bearer (OpenAI's clients), Basic's password (Nextcloud), `api-key` (Azure's clients)."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
    elif scheme.lower() == "basic":
        yield _password(credentials.strip())
    yield headers.get("api-key", "").strip()


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def _masked(key: str) -> str:
    """Enough of a key to recognise it by, as OpenAI shows it; short ones not at all."""
    return f"{key[:8]}***{key[-4:]}" if len(key) > 20 else "***"
