"""The devices available to CTranslate2: device names, compute types worth trying, and cuBLAS."""

import ctypes
import logging
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

import ctranslate2

from server.errors import ModelUnavailable

# Best first. int8_float16 is for GPUs with too little memory for float16; it fails on some, where float32 works.
LADDERS = {"cpu": ("int8", "float32"), "cuda": ("float16", "int8_float16", "float32")}
# The libraries of CUDA that CTranslate2 loads, by these names and on first use. The second needs the first.
CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
CUBLAS_WHEEL = "nvidia-cublas-cu12>=12.8"

logger = logging.getLogger(__name__)


def pick_device(wanted: str) -> tuple[str, int]:
    """CTranslate2's device name and index for auto, cpu, cuda or cuda:N; auto ignores GPUs without cuBLAS."""
    if wanted == "cpu":
        return "cpu", 0
    count = gpus()
    usable = count > 0 and load_cublas()
    if count and not usable:
        logger.warning("there is a GPU, but %s is missing: %s", CUBLAS[-1], cublas_advice())
    if wanted == "auto":
        wanted = "cuda" if usable else "cpu"
    name, _, index = wanted.partition(":")
    if name == "cuda" and count <= int(index or 0):
        raise ModelUnavailable(f"SOTTO_DEVICE={wanted}: CTranslate2 sees {count} CUDA devices")
    return name, int(index or 0)


def compute_types(device: str, index: int) -> tuple[str, ...]:
    """The compute types to try there, best first; CTranslate2's default if none of them is supported."""
    supported = ctranslate2.get_supported_compute_types(device, index)
    return tuple(name for name in LADDERS[device] if name in supported) or ("default",)


def supported_types(device: str, index: int) -> list[str]:
    """All compute types that CTranslate2 supports on that device, those worth trying first."""
    supported: set[str] = ctranslate2.get_supported_compute_types(device, index)
    ladder = compute_types(device, index)
    return [*(name for name in ladder if name in supported), *sorted(supported - {*ladder})]


def gpus() -> int:
    """Number of GPUs that CTranslate2 finds."""
    count: int = ctranslate2.get_cuda_device_count()
    return count


def gpu_bytes(index: int) -> int:
    """The memory of a GPU, from the driver; 0 if unknown. Creates no context, which would use memory."""
    size = ctypes.c_size_t(0)
    device = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        known = (
            driver.cuInit(0) == 0
            and driver.cuDeviceGet(ctypes.byref(device), index) == 0
            and driver.cuDeviceTotalMem_v2(ctypes.byref(size), device) == 0
        )
    except (OSError, AttributeError):
        return 0
    return size.value if known else 0


def load_cublas() -> bool:
    """Preload cuBLAS, so that CTranslate2 finds it; False if it is neither in its wheel nor on the linker's path.

    The wheel comes with the extra `cuda`; the dynamic linker doesn't search it.
    """
    try:
        for name in CUBLAS:
            ctypes.CDLL(_in_wheel(name), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def cublas_advice() -> str:
    """How to install cuBLAS into this Python."""
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(CUBLAS_WHEEL)}"


def _in_wheel(name: str) -> str:
    """The path of a library in cuBLAS's wheel, or its bare name, for the linker to find."""
    spec = find_spec("nvidia.cublas") if find_spec("nvidia") else None
    folders = spec.submodule_search_locations or () if spec else ()
    paths = [Path(folder) / "lib" / name for folder in folders]
    return next((str(path) for path in paths if path.is_file()), name)
