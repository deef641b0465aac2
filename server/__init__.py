"""Sotto: a self-hosted speech-to-text server that speaks OpenAI's audio API."""

import os

__version__ = "0.1.0"

# onnxruntime reports to its vendor unless told not to before it is imported. Offline means offline.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# numpy's one matrix product here, in a window's mel spectrogram, is tiny. OpenBLAS's threads would spin on after it
# on the cores that the model needs: 100 ms of CPU time for each window.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
