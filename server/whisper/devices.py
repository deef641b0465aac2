"""What CTranslate2 can run on here: the device, the compute types worth trying on it, and cuBLAS."""

import ctypes
import logging
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import ctranslate2

from server.errors import ModelUnavailable

# Best first. int8_float16 is for GPUs without the memory for float16; it fails on some, where float32 never does.
LADDERS = {"cpu": ("int8", "float32"), "cuda": ("float16", "int8_float16", "float32")}
# All that CTranslate2 opens of CUDA, by these names and on first use. The second needs the first.
CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
CUBLAS_WHEEL = "nvidia-cublas-cu12>=12.8"

logger = logging.getLogger(__name__)


def pick_device(asked: str) -> tuple[str, int]:
    """CTranslate2's device name and index for auto, cpu, cuda or cuda:N; auto passes by GPUs without cuBLAS."""
    if asked == "cpu":
        return "cpu", 0
    count = gpus()
    usable = count > 0 and load_cublas()
    if count and not usable:
        logger.warning("there is a GPU, and no %s to compute with: %s", CUBLAS[-1], cublas_advice())
    if asked == "auto":
        asked = "cuda" if usable else "cpu"
    name, _, index = asked.partition(":")
    if name == "cuda" and count <= int(index or 0):
        raise ModelUnavailable(f"SOTTO_DEVICE={asked}: CTranslate2 sees {count} CUDA devices")
    return name, int(index or 0)


def compute_types(device: str, index: int) -> tuple[str, ...]:
    """What is worth trying there, best first; whatever CTranslate2 would do by itself where it has none of that."""
    supported = ctranslate2.get_supported_compute_types(device, index)
    return tuple(name for name in LADDERS[device] if name in supported) or ("default",)


def supported_types(device: str, index: int) -> list[str]:
    """All that CTranslate2 has for that device, what is worth trying first."""
    supported: set[str] = ctranslate2.get_supported_compute_types(device, index)
    ladder = compute_types(device, index)
    return [*(name for name in ladder if name in supported), *sorted(supported - {*ladder})]


def gpus() -> int:
    """How many CTranslate2 sees."""
    count: int = ctranslate2.get_cuda_device_count()
    return count


def gpu_bytes(index: int) -> int:
    """The memory of a GPU, by the driver; 0 where it doesn't tell. Opens no context, which would take memory."""
    size = ctypes.c_size_t(0)
    device = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        told = (
            driver.cuInit(0) == 0
            and driver.cuDeviceGet(ctypes.byref(device), index) == 0
            and driver.cuDeviceTotalMem_v2(ctypes.byref(size), device) == 0
        )
    except (OSError, AttributeError):
        return 0
    return size.value if told else 0


def load_cublas() -> bool:
    """Load cuBLAS, so that CTranslate2 finds it loaded; False if it is neither in its wheel nor where linkers look.

    The wheel is the extra `cuda`; the dynamic linker doesn't search that.
    """
    try:
        for name in CUBLAS:
            ctypes.CDLL(_in_wheel(name), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def cublas_advice() -> str:
    """How to get cuBLAS into this Python."""
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(CUBLAS_WHEEL)}"


def _in_wheel(name: str) -> str:
    """The path of a library of cuBLAS's wheel, or the name alone, for the linker to look for."""
    spec = find_spec("nvidia.cublas") if find_spec("nvidia") else None
    folders = spec.submodule_search_locations or () if spec else ()
    paths = [Path(folder) / "lib" / name for folder in folders]
    return next((str(path) for path in paths if path.is_file()), name)
