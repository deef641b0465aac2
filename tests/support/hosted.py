"""Engines that a test starts in real child processes, steered by the prompts of their windows and by files.

`FakeLoader` loads a `FakeModel` that does what the prompt says: `die`, `die once`, `hang`, `fail`, `lose` the
device, lose a `thread`. While `folder/hold` exists it waits inside the model; where `folder/stuck` does, no trial
ever ends; `folder/starts` counts processes.
"""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server.engine.limits import BatchLimits
from server.engine.loader import LoadedModel, ModelFacts
from server.engine.supervisor import SupervisedEngine, SupervisorTimeouts
from server.errors import ModelUnavailable
from server.options import DecodingOptions
from server.transcript import Window
from server.whisper.decoding import WindowState
from tests.support.fakes import FakeModel, Outcome, default_answer, wait_until

QUICK = SupervisorTimeouts(again_s=(0.0,), tick_s=0.02)
LIMITS = BatchLimits(4, 4, max_queued=100)


class ThreadsEnd(BaseException):
    """What nothing catches."""


class SteeredModel(FakeModel):
    """Runs in the child."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(self._answer_by_prompt)
        self.device = device
        self._folder = folder

    def generate(self, batch: Sequence[WindowState]) -> None:
        wait_until(lambda: not (self._folder / "hold").exists(), deadline_s=60)
        super().generate(batch)

    def _answer_by_prompt(self, window: Window, options: DecodingOptions) -> Outcome:
        match options.prompt:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "die once" if mark(self._folder / "died"):
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                threading.Event().wait()
            case "fail":
                return ValueError("bad window")
            case "lose" if mark(self._folder / "lost"):
                return RuntimeError("CUDA failed with error unspecified launch failure")
            case "thread" if mark(self._folder / "dead"):
                raise ThreadsEnd
        return default_answer(window, options)


@dataclass(frozen=True)
class FakeLoader:
    """Loads unless `folder/broken` exists, which says how that goes: `die`, or what is wrong."""

    folder: Path
    device: str = "cpu"
    row_s: float = 0.0

    def load(self) -> LoadedModel:
        with (self.folder / "starts").open("a") as starts:
            starts.write(".")
        broken = self.folder / "broken"
        if broken.exists():
            if (reason := broken.read_text()) == "die":
                os.abort()
            raise ModelUnavailable(reason)
        device = (self.folder / "device").read_text() if (self.folder / "device").exists() else self.device
        facts = ModelFacts(("en",), 80, device, "int8", self.row_s)
        return LoadedModel(SteeredModel(self.folder, device), LIMITS, facts, self._probe)

    @property
    def starts(self) -> int:
        return len((self.folder / "starts").read_text())

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def release(self) -> None:
        (self.folder / "hold").unlink()

    def _probe(self) -> None:
        with (self.folder / "probes").open("a") as probes:
            probes.write(".")
        if (self.folder / "stuck").exists():
            threading.Event().wait()
        if mark(self.folder / "probed"):
            raise RuntimeError("the device is gone")


def mark(file: Path) -> bool:
    """Whether this is the first time."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@contextmanager
def supervised(loader: FakeLoader, patience: SupervisorTimeouts = QUICK) -> Iterator[SupervisedEngine]:
    """An engine whose first process is ready."""
    engine = SupervisedEngine(loader, "fake", patience=patience)
    try:
        engine.facts()
        yield engine
    finally:
        engine.close()


def pid(engine: SupervisedEngine) -> int:
    """Of the process that it has now."""
    (one,) = engine.stats().pids
    return one


def kill(engine: SupervisedEngine) -> None:
    os.kill(pid(engine), signal.SIGKILL)
