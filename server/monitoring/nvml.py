"""Memory of NVIDIA's GPUs, read through the driver's own library. The only module that uses NVML.

Creates no CUDA context and takes no GPU memory. Without a driver the list of GPUs is empty. Four calls by ctypes:
NVIDIA's bindings would be one more dependency of every installation.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBRARY = "libnvidia-ml.so.1"  # comes with the driver


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """The memory of the GPU with this NVML index, as used by all processes."""

    index: int
    used_bytes: int
    total_bytes: int


class MemoryInfo(ctypes.Structure):
    """`nvmlMemory_t`."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Nvml:
    """Loads the library on first use, and doesn't try again after a failure."""

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._load = load
        self._library: Any = None
        self._tried = False
        self._lock = threading.Lock()

    def gpus(self) -> list[GpuMemory]:
        """Return the GPUs that can be read; empty if there are none. Thread-safe."""
        with self._lock:
            if not self._tried:
                self._tried, self._library = True, self._open()
            return self._ask() if self._library else []

    def _open(self) -> Any:
        try:
            library = self._load(LIBRARY)
        except OSError:
            return None
        return library if library.nvmlInit_v2() == 0 else None

    def _ask(self) -> list[GpuMemory]:
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return []
        return [memory for index in range(count.value) if (memory := self._memory(index))]

    def _memory(self, index: int) -> GpuMemory | None:
        device, memory = ctypes.c_void_p(), MemoryInfo()
        failed = self._library.nvmlDeviceGetHandleByIndex_v2(
            ctypes.c_uint(index), ctypes.byref(device)
        ) or self._library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
        return None if failed else GpuMemory(index, memory.used, memory.total)
