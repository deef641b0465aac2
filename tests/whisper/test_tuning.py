"""The allocator's settings: applied where glibc is, absent elsewhere, and really giving memory back."""

import ctypes
import os
import subprocess
import sys

import pytest

from server.whisper import tuning
from server.whisper.tuning import FORCE_ISA, pick_workers, prepare_cpu

MEASURE = """
import re, sys
from server.whisper import tuning
rss = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
assert tuning.tune()
blocks = [bytearray(b"x" * (1 << 20)) for _ in range(200)]
held = rss()
del blocks
kept = rss()
tuning.trim()
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
    assert not tuning.tune()
    assert not tuning.trim()


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of instruction sets and waiting threads."""
    for name in (FORCE_ISA, "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is restored, whatever the test sets
        monkeypatch.delenv(name)
    monkeypatch.setattr("server.whisper.tuning.tune", lambda: True)
    return monkeypatch


def test_avx512_is_forced_where_available_and_logged(clean: pytest.MonkeyPatch) -> None:
    clean.setattr("server.whisper.tuning.has_avx512", lambda: True)
    assert prepare_cpu(tune_allocator=True).endswith("CT2_FORCE_CPU_ISA=AVX512, allocator tuned")
    assert os.environ[FORCE_ISA] == "AVX512"


def test_the_operators_instruction_set_stays(clean: pytest.MonkeyPatch) -> None:
    clean.setattr("server.whisper.tuning.has_avx512", lambda: True)
    clean.setenv(FORCE_ISA, "AVX2")
    assert "CT2_FORCE_CPU_ISA=AVX2" in prepare_cpu(tune_allocator=True)


def test_without_avx512_nothing_is_forced(clean: pytest.MonkeyPatch) -> None:
    clean.setattr("server.whisper.tuning.has_avx512", lambda: False)
    assert "no AVX-512, allocator as it is" in prepare_cpu(tune_allocator=False)
    assert FORCE_ISA not in os.environ


def test_threads_never_spin_while_they_wait(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("OMP_WAIT_POLICY", "active")
    prepare_cpu(tune_allocator=False)
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize(("cpus", "workers"), [(1, 1), (2, 2), (4, 2), (8, 2), (12, 3), (16, 4)])
def test_a_cpu_is_divided_among_batches(monkeypatch: pytest.MonkeyPatch, cpus: int, workers: int) -> None:
    monkeypatch.setattr("server.whisper.tuning.usable_cpus", lambda: cpus)
    assert pick_workers("cpu") == workers
