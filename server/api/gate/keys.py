"""API keys: which are valid, their names, and where clients send them."""

import base64
import hmac
from collections.abc import Iterable, Iterator

from starlette.datastructures import Headers

from server.errors import PermissionDenied, Unauthorized

DENIED = "Loading, unloading, pulling and deleting models needs an admin key"

NamedKey = tuple[str, bytes]


class Keys:
    """The keys of this server; without ordinary ones it is open, except for routes that need an admin key."""

    def __init__(self, keys: Iterable[str], admin_keys: Iterable[str] = ()) -> None:
        """Each key may be preceded by a name; keys that share one count as the same client."""
        self._keys = _named(keys, "key")
        self._admin_keys = _named(admin_keys, "admin key")

    @property
    def required(self) -> bool:
        """True if every request needs one."""
        return bool(self._keys)

    def check(self, headers: Headers) -> str:
        """Return the name of the request's key, empty if none is needed. Raises `Unauthorized`."""
        if self.required:
            return _checked([*self._keys, *self._admin_keys], headers)
        return _match(self._admin_keys, headers) or ""

    def is_admin(self, headers: Headers) -> bool:
        """True for a request with an admin key."""
        return _match(self._admin_keys, headers) is not None

    def check_admin(self, headers: Headers) -> str:
        """Return the name of the request's key. Raises `Unauthorized` without a valid one, `PermissionDenied` if it
        is not an admin key."""
        if not self._admin_keys:
            raise PermissionDenied(f"{DENIED}, and this server has none (SOTTO_ADMIN_KEYS).")
        name = _checked([*self._keys, *self._admin_keys], headers)
        if not self.is_admin(headers):
            raise PermissionDenied(f"{DENIED} (SOTTO_ADMIN_KEYS); the key of this request is not one.")
        return name


def _named(keys: Iterable[str], otherwise: str) -> list[NamedKey]:
    split = [key.rpartition(" ") for key in keys]
    return [(name.strip() or f"{otherwise} {n}", key.encode()) for n, (name, _, key) in enumerate(split, 1)]


def _checked(keys: list[NamedKey], headers: Headers) -> str:
    """Return the name of the request's key in `keys`. Raises `Unauthorized`."""
    if name := _match(keys, headers):
        return name
    if not (offered := next(filter(None, _offered(headers)), None)):
        raise Unauthorized(
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
        )
    raise Unauthorized(f"Incorrect API key provided: {_masked(offered)}.", code="invalid_api_key")


def _match(keys: list[NamedKey], headers: Headers) -> str | None:
    # Compare every key, each in constant time, so that the response time reveals nothing about them.
    offered = [given.encode() for given in _offered(headers) if given]
    found = [name for given in offered for name, key in keys if hmac.compare_digest(given, key)]
    return found[0] if found else None


def _offered(headers: Headers) -> Iterator[str]:
    """Yield possible keys: Bearer (OpenAI's clients), Basic's password (Nextcloud), `api-key` (Azure's clients)."""
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
    """Return enough of a key to recognize it, as OpenAI shows it; short keys are hidden completely."""
    return f"{key[:8]}***{key[-4:]}" if len(key) > 20 else "***"
