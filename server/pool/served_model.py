"""A model that is being loaded, and a loaded one, as the pipeline uses them."""

from dataclasses import dataclass
from typing import Protocol

from server.engine.interface import EngineLike
from server.models.known_model import KnownModel


@dataclass(frozen=True)
class ServedModel:
    """A loaded model: its engine, and its properties; languages and mel bands as the model itself reports them.

    `device_bytes` is all the memory of its GPU, of the smallest one if there are several, 0 on a CPU; `prepared`
    describes how its process was set up.
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
    """A model that is being loaded, in a process of its own or when `wait` is called."""

    def wait(self) -> ServedModel:
        """Wait for the model: seconds. Raises `ModelUnavailable`, also once closed."""
        ...

    def close(self) -> None:
        """Abort the load, or close the loaded model."""
        ...
