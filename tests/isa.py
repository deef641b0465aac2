"""Run the numeric tests once for each instruction set that CTranslate2 offers on this CPU: `python -m tests.isa`.

The libraries beneath and beside it keep to the set too, as on a CPU that has no more. Arguments go to pytest.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from server.machine import FORCE_ISA

ROOT = Path(__file__).parent.parent
RUN = """
import ctranslate2, numpy
features = ctranslate2.StorageView.from_array(numpy.zeros((1, 80, 1000), numpy.float32))
ctranslate2.models.Whisper("models/demo", device="cpu").encode(features)
"""
LIMITS: Mapping[str, Mapping[str, str]] = {
    "GENERIC": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "AVX512": {},
    "NEON": {},
}
NUMPY_LACKS = "NPY_DISABLE_CPU_FEATURES"
NUMPY_KEEPS = {"GENERIC": (), "AVX2": ("X86_V3", "SSE", "POPCNT", "AVX2", "FMA3", "F16C")}


def lane(isa: str) -> dict[str, str]:
    """The environment in which this CPU is one of `isa`."""
    limits = {FORCE_ISA: isa, **LIMITS[isa]}
    if limits.keys() > {FORCE_ISA} and (beyond := _numpy_features(isa)):
        limits[NUMPY_LACKS] = " ".join([*os.environ.get(NUMPY_LACKS, "").split(), *beyond])
    return os.environ | limits


def _numpy_features(isa: str) -> list[str]:
    """What numpy would use of this CPU beyond `isa`."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return [name for name in found if not name.startswith(NUMPY_KEEPS[isa] or "-")]


def offered(isa: str) -> bool:
    """Whether CTranslate2 is built for `isa` and the CPU has it."""
    return subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, env=lane(isa), capture_output=True).returncode == 0


def main(arguments: list[str]) -> int:
    lanes = [isa for isa in LIMITS if offered(isa)]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "numeric and not slow and not soak", *arguments]
    failed = []
    for isa in lanes:
        print(f"{FORCE_ISA}={isa}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=lane(isa)).returncode:
            failed.append(isa)
    print(f"numeric tests under {', '.join(lanes)}: {'failed under ' + ', '.join(failed) if failed else 'passed'}")
    return 1 if failed or not lanes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
