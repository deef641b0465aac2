"""glibc's allocator, tuned for CTranslate2.

CTranslate2 frees its large buffers (54 MB of attention scores a window for `tiny`) after every operation; glibc
gives each back to the kernel and faults it in again. Keeping them makes encoding on a CPU twice as fast with the
same arithmetic; what is kept is given back by `trim`. Elsewhere (musl, macOS) both do nothing.
"""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # malloc.h
NEVER_TRIM = 2**31 - 1
TOP_PAD_BYTES = 64 << 20


def tune() -> bool:
    """Keep freed memory for reuse, in one arena. To be called before a model is loaded; False where absent."""
    libc = _glibc()
    if libc is None:
        return False
    wanted = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER_TRIM, M_TOP_PAD: TOP_PAD_BYTES}
    return all([libc.mallopt(parameter, value) == 1 for parameter, value in wanted.items()])


def trim() -> bool:
    """Give free memory back to the kernel; whether any was."""
    libc = _glibc()
    return libc is not None and libc.malloc_trim(0) == 1


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt, libc.malloc_trim  # noqa: B018 - looked up: musl answers to the name but lacks them
    except (OSError, AttributeError):
        return None
    return libc
