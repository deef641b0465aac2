"""Sotto: a self-hosted speech-to-text server that speaks OpenAI's audio API."""

import os

__version__ = "0.1.0"

# onnxruntime reports to its vendor unless told not to before it is imported. Offline means offline.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# No code here multiplies matrices by numpy, but OpenBLAS starts a thread for each core when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
