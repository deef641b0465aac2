"""Sotto: a self-hosted speech-to-text server that speaks OpenAI's audio API."""

import os

__version__ = "0.1.0"

# onnxruntime sends telemetry to its vendor unless this is set before it is imported. Offline means offline.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# No code here uses numpy's matrix multiplication, but OpenBLAS starts a thread per core when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
