"""Models as the flow sees them: being loaded, and loaded."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from server.engine.interface import EngineLike
from server.models.known_model import KnownModel
from server.transcript import MAX_WINDOW_S


@dataclass(frozen=True)
class ServedModel:
    """A loaded model: its engine, its names (the first is its id) and what is known of it.

    `device_bytes` is all the memory of its GPU, of several the smallest one's, 0 on a CPU; `prepared` what its
    process was set up with.
    """

    engine: EngineLike
    names: tuple[str, ...]
    languages: tuple[str, ...]
    window_s: float = MAX_WINDOW_S
    mels: int = 80
    description: str = ""
    prepared: str = ""
    device_bytes: int = 0
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def known(self) -> KnownModel:
        """What would be known of it, were it not loaded."""
        return KnownModel(
            self.names, languages=self.languages, window_s=self.window_s, mels=self.mels, created=self.created
        )


class Starting(Protocol):
    """A model that is being loaded, in a process of its own or whenever `wait` is called."""

    def wait(self) -> ServedModel:
        """Takes seconds; raises `ModelUnavailable`, also once closed."""
        ...

    def close(self) -> None:
        """Give it up, or end what it has become."""
        ...
