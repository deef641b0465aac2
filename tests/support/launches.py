"""Models that load with fake engines, at once or once an event is set."""

import threading
from dataclasses import replace

from server.errors import ModelUnavailable
from server.models.known_model import KnownModel
from server.pool.served_model import ServedModel
from server.stats import EngineState, EngineStats
from tests.support.fakes import DEADLINE_S, FakeEngine
from tests.support.registries import served_model


class Engines:
    """Starts a `FakeEngine` for each model, which may hold loads or ends, or fail."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: list[Process] = []
        self.fails = ""
        self.problem = ""
        self.load = threading.Event()
        self.load.set()
        self.end = threading.Event()
        self.end.set()

    def start(self, known: KnownModel) -> "Starting":
        self.started.append(known.name)
        return Starting(self, known)

    def refresh(self, known: KnownModel) -> KnownModel:
        return KnownModel(known.names, known.folder, known.size_bytes, problem=self.problem)


class Starting:
    def __init__(self, engines: Engines, known: KnownModel) -> None:
        self._engines = engines
        self._known = known
        self._closed = False

    def wait(self) -> ServedModel:
        assert self._engines.load.wait(DEADLINE_S), "held for too long"
        if self._closed:
            raise ModelUnavailable("given up")
        if self._engines.fails:
            raise ModelUnavailable(self._engines.fails)
        engine = Process(self._engines)
        self._engines.running.append(engine)
        return served_model(engine, self._known.names, ("en",))

    def close(self) -> None:
        self._closed = True
        self._engines.load.set()


class Process(FakeEngine):
    def __init__(self, engines: Engines) -> None:
        super().__init__()
        self.state: EngineState = "ready"
        self._engines = engines

    def stats(self) -> EngineStats:
        return replace(super().stats(), state=self.state)

    def close(self) -> None:
        assert self._engines.end.wait(DEADLINE_S), "held for too long"
        super().close()
        if self in self._engines.running:
            self._engines.running.remove(self)
