import ctypes
import logging
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ctranslate2
import pytest

from server.errors import ModelUnavailable
from server.options import ModelOptions
from server.whisper import devices
from server.whisper.devices import CUBLAS_WHEEL, compute_types, cublas_advice, load_cublas, pick_device
from server.whisper.model import Whisper

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 2)
    monkeypatch.setattr(devices, "load_cublas", lambda: True)


@pytest.fixture
def gpu_without_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(devices, "load_cublas", lambda: False)


@pytest.mark.parametrize("asked", ["auto", "cpu"])
@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_cpu_is_taken(asked: str) -> None:
    assert pick_device(asked) == ("cpu", 0)


@pytest.mark.parametrize("asked", ["cuda", "cuda:0", "cuda:1"])
@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_not_there_is_refused(asked: str, scripted_model: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"SOTTO_DEVICE={asked}: .* 0 CUDA devices"):
        Whisper(scripted_model, ModelOptions(device=asked))


@pytest.mark.parametrize(
    ("asked", "picked"),
    [("auto", ("cuda", 0)), ("cuda", ("cuda", 0)), ("cuda:1", ("cuda", 1)), ("cpu", ("cpu", 0))],
)
@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_the_one_asked_for_is_taken(
    asked: str, picked: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert pick_device(asked) == picked
    assert caplog.text == ""


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_beyond_the_last_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize(("asked", "picked"), [("auto", ("cpu", 0)), ("cuda", ("cuda", 0))])
@pytest.mark.usefixtures("gpu_without_cublas")
def test_a_gpu_without_cublas_is_reported_with_advice_and_skipped_by_auto(
    asked: str, picked: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert pick_device(asked) == picked
    assert caplog.messages == [f"there is a GPU, but libcublas.so.12 is missing: {cublas_advice()}"]


def test_the_advice_is_what_the_extra_installs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert extras["cuda"] == [CUBLAS_WHEEL]
    assert cublas_advice().startswith(sys.executable)
    assert cublas_advice().endswith(f"-m pip install '{CUBLAS_WHEEL}'")


def test_a_cpu_computes_in_int8(demo: Whisper) -> None:
    assert compute_types("cpu", 0) == ("int8", "float32")
    assert (demo.device, demo.compute_type) == ("cpu", "int8")


@pytest.mark.parametrize(
    ("supported", "ladder"),
    [
        ({"float16", "float32", "int8", "int8_float16"}, ("float16", "int8_float16", "float32")),
        ({"float32", "int8"}, ("float32",)),
        (set(), ("default",)),
    ],
)
def test_a_gpu_computes_in_float16_where_it_can(
    monkeypatch: pytest.MonkeyPatch, supported: set[str], ladder: tuple[str, ...]
) -> None:
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda *_: supported)
    assert compute_types("cuda", 0) == ladder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Libraries that are loaded from now on, by path; none really is, and the linker knows none by its name."""
    libraries: list[str] = []

    def load(path: str, mode: int) -> None:
        assert mode == ctypes.RTLD_GLOBAL
        if "/" not in path:
            raise OSError("cannot open shared object file")
        libraries.append(Path(path).name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return libraries


MakeWheel = Callable[..., None]


@pytest.fixture
def cublas_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWheel]:
    """Makes a package `nvidia.cublas`, in place of a real one, whose folder `lib` holds the files named."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "nvidia"}

    def make(*files: str) -> None:
        (tmp_path / "nvidia" / "cublas" / "lib").mkdir(parents=True)
        for package in ("nvidia", "nvidia/cublas"):
            (tmp_path / package / "__init__.py").touch()
        for name in files:
            (tmp_path / "nvidia" / "cublas" / "lib" / name).touch()
        monkeypatch.syspath_prepend(tmp_path)

    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] == "nvidia"]:
        del sys.modules[name]
    sys.modules.update(hidden)


def test_cublas_is_loaded_from_its_wheel(loaded: list[str], cublas_wheel: MakeWheel) -> None:
    cublas_wheel("libcublas.so.12", "libcublasLt.so.12")
    assert load_cublas()
    assert loaded == ["libcublasLt.so.12", "libcublas.so.12"]  # in this order: the second needs the first


def test_another_version_of_cublas_is_not_loaded(loaded: list[str], cublas_wheel: MakeWheel) -> None:
    cublas_wheel("libcublas.so.13", "libcublasLt.so.13")
    assert not load_cublas()
    assert loaded == []


def test_without_the_wheel_cublas_is_what_the_linker_finds(
    loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda _: None)
    assert not load_cublas()
    assert loaded == []
    found: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name, mode: found.append(name))
    assert load_cublas()
    assert found == ["libcublasLt.so.12", "libcublas.so.12"]


class Driver:
    """CUDA's, as far as it tells how much memory there is."""

    def __init__(self, memory: dict[int, int]) -> None:
        self._memory = memory

    def cuInit(self, _: int) -> int:
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0 if index in self._memory else 101

    def cuDeviceTotalMem_v2(self, size: Any, device: ctypes.c_int) -> int:
        size._obj.value = self._memory[device.value]
        return 0


def test_the_driver_reports_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver({0: 8 << 30, 1: 80 << 30}))
    assert [devices.gpu_bytes(index) for index in (0, 1, 2)] == [8 << 30, 80 << 30, 0]


def test_without_a_driver_nothing_is_known_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert devices.gpu_bytes(0) == 0
