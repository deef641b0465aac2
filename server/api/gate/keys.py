"""API keys: which are let in, under which names, and where clients put theirs."""

import base64
import hmac
from collections.abc import Iterable, Iterator

from starlette.datastructures import Headers

from server.errors import PermissionDenied, Unauthorized

DENIED = "Models are loaded, unloaded, pulled and deleted with an admin key"

NamedKey = tuple[str, bytes]


class Keys:
    """The keys of this server; without ordinary ones it is open, but for what takes an admin key."""

    def __init__(self, keys: Iterable[str], admin_keys: Iterable[str] = ()) -> None:
        """Each key may have a name before it; those that share one count as the same client's."""
        self._keys = _named(keys, "key")
        self._admin_keys = _named(admin_keys, "admin key")

    def check(self, headers: Headers) -> str:
        """The name of the key that a request came with, empty where none is needed. Raises `Unauthorized`."""
        if self._keys:
            return _checked([*self._keys, *self._admin_keys], headers)
        return _match(self._admin_keys, headers) or ""

    def check_admin(self, headers: Headers) -> None:
        """Raises `Unauthorized` without a key, `PermissionDenied` for one that is no admin key."""
        if not self._admin_keys:
            raise PermissionDenied(f"{DENIED}, and this server has none (SOTTO_ADMIN_KEYS).")
        _checked([*self._keys, *self._admin_keys], headers)
        if not _match(self._admin_keys, headers):
            raise PermissionDenied(f"{DENIED} (SOTTO_ADMIN_KEYS); yours is an ordinary one.")


def _named(keys: Iterable[str], otherwise: str) -> list[NamedKey]:
    split = [key.rpartition(" ") for key in keys]
    return [(name.strip() or f"{otherwise} {n}", key.encode()) for n, (name, _, key) in enumerate(split, 1)]


def _checked(keys: list[NamedKey], headers: Headers) -> str:
    """The name of the one of `keys` that came. Raises `Unauthorized`."""
    if name := _match(keys, headers):
        return name
    if not (offered := next(filter(None, _offered(headers)), None)):
        raise Unauthorized(
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
        )
    raise Unauthorized(f"Incorrect API key provided: {_masked(offered)}.", code="invalid_api_key")


def _match(keys: list[NamedKey], headers: Headers) -> str | None:
    # Every key is compared, and each in constant time: the answer's delay tells nothing about any.
    offered = [given.encode() for given in _offered(headers) if given]
    found = [name for given in offered for name, key in keys if hmac.compare_digest(given, key)]
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
