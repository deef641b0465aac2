"""Messages between an engine's supervisor and its child process: values, pickled.

Pickle is safe here: both ends are ours, and of the client's data a child receives only samples.
"""

from dataclasses import dataclass
from typing import Literal

from server.engine.loader import ModelFacts, ModelLoader
from server.options import DecodingOptions, Priority
from server.stats import EngineStats
from server.transcript import Window, WindowResult


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: the loader, logging options, and how often to probe an idle model."""

    loader: ModelLoader
    log_level: str
    log_format: Literal["text", "json"]
    probe_every_s: float


@dataclass(frozen=True, slots=True)
class Submit:
    number: int
    window: Window
    options: DecodingOptions
    request: str
    priority: Priority
    client: str


@dataclass(frozen=True, slots=True)
class Cancel:
    request: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is running, with these limits."""

    facts: ModelFacts
    max_batch: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life: at the beginning and end of each batch, and every second.

    `running` are the numbers of the windows in batches, `turns` the waiting requests in scheduling order.
    """

    stats: EngineStats
    running: tuple[int, ...] = ()
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    number: int
    result: WindowResult | Exception


@dataclass(frozen=True, slots=True)
class ExitReason:
    """The reason why the process is about to exit."""

    reason: str


ToChild = Start | Submit | Cancel
FromChild = Ready | Heartbeat | Result | ExitReason
