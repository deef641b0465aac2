"""Protocols: the model that an engine runs, and the engine that other modules use."""

from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from typing import Protocol

from server.options import DecodingOptions, Priority
from server.stats import EngineStats
from server.transcript import Window, WindowResult
from server.whisper.decoding import WindowState


class Model(Protocol):
    """A model that runs step by step over batches of equal keys. `whisper.model.Whisper` is the real one."""

    workers: int
    device: str
    compute_type: str

    def start(self, window: Window, options: DecodingOptions) -> WindowState: ...

    def decode_key(self, state: WindowState) -> Hashable: ...

    def align_key(self, state: WindowState) -> Hashable: ...

    def encode(self, batch: Sequence[WindowState]) -> None: ...

    def detect(self, batch: Sequence[WindowState]) -> None: ...

    def generate(self, batch: Sequence[WindowState]) -> None: ...

    def align(self, batch: Sequence[WindowState]) -> None: ...

    def result(self, state: WindowState) -> WindowResult: ...

    def trim_memory(self) -> None: ...

    def close(self) -> None: ...


class EngineLike(Protocol):
    """An engine, in this process or in a child process."""

    max_batch: int

    def submit(
        self,
        window: Window,
        options: DecodingOptions,
        *,
        request: str,
        priority: Priority = "bulk",
        client: str = "",
    ) -> Future[WindowResult]: ...

    def cancel(self, request: str) -> None: ...

    def position(self, request: str) -> int: ...

    def stats(self) -> EngineStats: ...

    def close(self) -> None: ...
