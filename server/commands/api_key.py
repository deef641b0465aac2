"""The API key that a command sends to a server, and whether it may be read on the way there."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from server.system.addresses import is_loopback

OWN = "SOTTO_API_KEY"
OPENAI, OPENAI_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and the environment variable that it comes from; both are empty where none is sent."""

    value: str = ""
    variable: str = ""

    @property
    def hint(self) -> str:
        """Where the key came from, for a server's answer that it is wrong or missing."""
        if self.variable:
            return f"The key sent is that of {self.variable}."
        return f"No key was sent: {OWN} is not set, and {OPENAI} is only sent to the server of {OPENAI_URL}."


def key_for(url: str, environment: Mapping[str, str] = os.environ) -> ApiKey:
    """Return the key for the server at `url`.

    OpenAI's own key must not reach another server: OPENAI_API_KEY counts only where OPENAI_BASE_URL names the
    same scheme, host and port.
    """
    if own := environment.get(OWN):
        return ApiKey(own, OWN)
    openai = environment.get(OPENAI)
    if openai and _origin(environment.get(OPENAI_URL, "")) == _origin(url) is not None:
        return ApiKey(openai, OPENAI)
    return ApiKey()


def is_readable_on_the_way(url: str) -> bool:
    """Return True if everybody on the network between here and `url` can read what is sent there."""
    address = urlsplit(url)
    return address.scheme == "http" and not is_loopback(address.hostname or "")


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port; None if `url` has no host or is malformed."""
    try:
        address = urlsplit(url)
        host, port = address.hostname, address.port
    except ValueError:
        return None
    return (address.scheme, host, port or PORTS.get(address.scheme)) if host else None
