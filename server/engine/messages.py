"""Messages between an engine's supervisor and its child process.

To the child they are pickled: it trusts the server. From the child they are JSON, which the server checks
(`server.engine.validation`): a child works with files of models and samples of recordings, and never gets to choose
what the server runs.
"""

import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

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
    result: WindowResult


@dataclass(frozen=True, slots=True)
class WindowFailed:
    """The error of one window. `unavailable`: of the engine, not of the window."""

    number: int
    message: str
    unavailable: bool = False


@dataclass(frozen=True, slots=True)
class ExitReason:
    """The reason why the process is about to exit."""

    reason: str


ToChild = Start | Submit | Cancel
FromChild = Ready | Heartbeat | Result | WindowFailed | ExitReason


def encode(message: FromChild) -> bytes:
    """The kind of message, a space, its fields in JSON."""
    text = json.dumps(message, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return f"{type(message).__name__} {text}".encode("utf-8", "replace")  # a path in an error may not be UTF-8


def _plain(value: Any) -> object:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    return value.item()  # a number of numpy's
