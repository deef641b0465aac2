"""Models as the flow sees them: being loaded, and loaded."""

from dataclasses import dataclass
from typing import Protocol

from server.engine.interface import EngineLike
from server.models.known_model import KnownModel


@dataclass(frozen=True)
class ServedModel:
    """A loaded model: its engine, and what is known of it, its languages and mel bands as it says itself.

    `device_bytes` is all the memory of its GPU, of several the smallest one's, 0 on a CPU; `prepared` what its
    process was set up with.
    """

    engine: EngineLike
    known: KnownModel
    description: str = ""
    prepared: str = ""
    device_bytes: int = 0

    @property
    def name(self) -> str:
        return self.known.name


class Starting(Protocol):
    """A model that is being loaded, in a process of its own or whenever `wait` is called."""

    def wait(self) -> ServedModel:
        """Takes seconds; raises `ModelUnavailable`, also once closed."""
        ...

    def close(self) -> None:
        """Give it up, or end what it has become."""
        ...
