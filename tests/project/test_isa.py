"""The lanes of `make test-isa`."""

import platform
import subprocess
import sys

import pytest

from tests.support.isa import lane, offered

FOUND = "import numpy; print(*numpy.show_config(mode='dicts')['SIMD Extensions'].get('found', []))"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="names the sets of x86-64")


def numpy_features(isa: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", FOUND], env=lane(isa), capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_sets_that_the_cpu_has_are_offered_and_no_others() -> None:
    assert offered("GENERIC")
    assert not offered("NEON")


def test_numpy_keeps_to_the_set_as_well() -> None:
    assert numpy_features("GENERIC") == []
    assert [name for name in numpy_features("AVX2") if name == "X86_V4" or name.startswith("AVX512")] == []
