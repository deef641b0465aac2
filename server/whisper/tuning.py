"""Prepares a process for CTranslate2: instruction set, threads, and glibc's allocator.

CTranslate2 frees its large buffers (54 MB of attention scores per window for `tiny`) after every operation; glibc
returns each to the kernel and faults it in again. Keeping them makes encoding on a CPU twice as fast with the same
arithmetic; `trim` releases the kept memory. Without glibc (musl, macOS) neither function has an effect.
"""

import ctypes
import os

from server.system.machine import has_avx512, usable_cpus

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # malloc.h
NEVER_TRIM = 2**31 - 1
TOP_PAD_BYTES = 64 << 20
GPU_WORKERS = 2
THREADS_PER_WORKER = 4
FORCE_ISA = "CT2_FORCE_CPU_ISA"


def tune() -> bool:
    """Keep freed memory for reuse, in one arena. Call before a model is loaded; False if not supported."""
    libc = _glibc()
    if libc is None:
        return False
    wanted = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER_TRIM, M_TOP_PAD: TOP_PAD_BYTES}
    return all([libc.mallopt(parameter, value) == 1 for parameter, value in wanted.items()])


def trim() -> bool:
    """Return free memory to the kernel; True if there was any."""
    libc = _glibc()
    return libc is not None and libc.malloc_trim(0) == 1


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt, libc.malloc_trim  # noqa: B018 - looked up: musl answers to the name but lacks them
    except (OSError, AttributeError):
        return None
    return libc


def pick_workers(device: str) -> int:
    """Number of batches to run at the same time.

    In the decoder's small steps threads spend more time waiting for each other than they save: a CPU's cores are
    better divided among batches, four each. On a GPU one batch's host work overlaps with another's on the device.
    """
    if device != "cpu":
        return GPU_WORKERS
    cpus = usable_cpus()
    return min(cpus, max(2, cpus // THREADS_PER_WORKER))


def prepare_cpu(*, tune_allocator: bool) -> str:
    """Set up this process for inference, before CTranslate2 is imported; returns a description of the choices."""
    chosen = [f"{usable_cpus()} CPUs by affinity and quota"]
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        del os.environ["OMP_WAIT_POLICY"]  # threads that spin while waiting use two to three times the CPU
    if has_avx512():
        os.environ.setdefault(FORCE_ISA, "AVX512")  # which CTranslate2 never selects by itself
    chosen.append(f"{FORCE_ISA}={os.environ[FORCE_ISA]}" if FORCE_ISA in os.environ else "no AVX-512")
    chosen.append("allocator tuned" if tune_allocator and tune() else "allocator as it is")
    return ", ".join(chosen)
