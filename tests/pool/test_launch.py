"""Loading on several devices, with stand-ins for their engines."""

from dataclasses import replace

import pytest

from server.engine.loader import ModelFacts, WhisperLoader
from server.models.known_model import KnownModel
from server.pool.launch import Launch
from server.settings import Settings
from tests.support.fakes import FakeEngine

GIB = 1 << 30
SIZES = {"cuda:0": 80 * GIB, "cuda:1": 24 * GIB, "cuda:2": 0}  # one whose driver doesn't tell
FACTS = ModelFacts(("en",), 80, "cuda", "float16", 0.1)


class OnDevice(FakeEngine):
    """Loaded at once on the device that its recipe names."""

    def __init__(self, loader: WhisperLoader, name: str, **_: object) -> None:
        super().__init__()
        self._device = loader.options.device

    def facts(self) -> ModelFacts:
        return replace(FACTS, device_bytes=SIZES[self._device])


@pytest.mark.parametrize(
    ("devices", "size"), [("cuda:0", 80), ("cuda:0,cuda:1", 24), ("cuda:2,cuda:0", 80), ("cuda:2", 0)]
)
def test_of_several_gpus_the_smallest_counts(monkeypatch: pytest.MonkeyPatch, devices: str, size: int) -> None:
    monkeypatch.setattr("server.pool.launch.SupervisedEngine", OnDevice)
    launch = Launch(KnownModel(("m",)), Settings(device=devices))
    assert launch.wait().device_bytes == size * GIB
    launch.close()


def test_where_one_can_not_begin_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[OnDevice] = []

    def begin(loader: WhisperLoader, name: str, **_: object) -> OnDevice:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(OnDevice(loader, name))
        return begun[0]

    monkeypatch.setattr("server.pool.launch.SupervisedEngine", begin)
    with pytest.raises(RuntimeError, match="new thread"):
        Launch(KnownModel(("m",)), Settings(device="cuda:0,cuda:1"))
    assert begun[0].closed
