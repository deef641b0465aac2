"""What an engine's supervisor and its child process say to each other: values, sent as pickles.

Pickle is safe here, for both ends are ours and a child hears nothing but samples.
"""

from dataclasses import dataclass
from typing import Literal

from server.engine.loader import ModelFacts, ModelLoader
from server.options import DecodingOptions, Priority
from server.stats import EngineStats
from server.transcript import Window, WindowResult


@dataclass(frozen=True, slots=True)
class Start:
    """The first message: what to load, how to log, and how often to try a model that has nothing to do."""

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


@dataclass(frozen=True, slots=True)
class Cancel:
    request: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine runs, with these bounds."""

    facts: ModelFacts
    max_batch: int
    max_queued: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life: when a batch begins, when it has ended, and every second.

    `running` are the numbers of the windows in batches, `turns` the requests that wait, in their order.
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
    """Why the process is about to end itself."""

    reason: str


ToChild = Start | Submit | Cancel
FromChild = Ready | Heartbeat | Result | ExitReason
