"""The allocator's settings: applied where glibc is, absent elsewhere, and really giving memory back."""

import ctypes
import subprocess
import sys

import pytest

from server import allocator

MEASURE = """
import re, sys
from server import allocator
rss = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
assert allocator.tune()
blocks = [bytearray(b"x" * (1 << 20)) for _ in range(200)]
held = rss()
del blocks
kept = rss()
allocator.trim()
print(held - kept, kept - rss())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only; runs on Linux, as in CI")
def test_tuned_memory_stays_until_it_is_trimmed() -> None:
    output = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True).stdout
    given_back_by_free, given_back_by_trim = map(int, output.split())
    assert given_back_by_free < 20
    assert given_back_by_trim > 150


def test_without_glibc_both_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> ctypes.CDLL:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not allocator.tune()
    assert not allocator.trim()
