"""The child process in which `sotto doctor` tries things that may crash.

Answers with one JSON object. Imports are late, so that a library that can't be loaded is reported too.
"""

import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from server.system.child_process import attach

if TYPE_CHECKING:
    from server.audio.decode import Samples

RUNS = 2  # the first one includes one-time costs
SAMPLE_LIMIT_S = 60.0
SANDBOX_S = 10  # of CPU time, for a few system calls

Answer = dict[str, Any]


def answer(question: str, *arguments: str) -> Answer:
    """Return the answer to one of `QUESTIONS`; only `error` if it fails."""
    try:
        return QUESTIONS[question](*arguments)
    except Exception as error:  # the boundary of a process
        return {"error": str(error) or type(error).__name__}


def cuda() -> Answer:
    """Return the number of GPUs that CTranslate2 sees, and whether cuBLAS can be loaded."""
    from server.whisper.devices import cublas_advice, gpus, load_cublas

    return {"count": gpus(), "cublas": load_cublas(), "advice": cublas_advice()}


def device(asked: str) -> Answer:
    """Return the device for a setting, the compute types to try on it, and all that it supports."""
    from server.whisper.devices import compute_types, pick_device, supported_types

    name, index = pick_device(asked)
    picked = name if name == "cpu" else f"{name}:{index}"
    return {
        "device": picked,
        "ladder": compute_types(name, index),
        "supported": supported_types(name, index),
    }


def codecs() -> Answer:
    """Return the usual kinds of recordings that can and can't be read, after decoding one."""
    from server.audio.decode import USUAL, lacking

    _sample()
    lacks = lacking()
    return {"reads": [kind for kind in USUAL if kind not in lacks], "lacks": lacks}


def decode(loader: str) -> Answer:
    """Return the text of the bundled recording, and the speed; `loader` is a `WhisperLoader` in JSON."""
    from server.engine.engine import Engine
    from server.engine.loader import WhisperLoader
    from server.options import DecodingOptions, ModelOptions
    from server.transcript import SAMPLE_RATE, Span, Window

    values = json.loads(loader)
    loaded = WhisperLoader(Path(values["folder"]), ModelOptions(**values["options"])).load()
    samples = _sample()
    window = Window(0, (Span(0, len(samples)),), samples=samples.tobytes())
    took_s = []
    with closing(Engine(loaded.model, loaded.limits)) as engine:
        for _ in range(RUNS):
            began_s = time.monotonic()
            result = engine.submit(window, DecodingOptions(), request="trial").result()
            took_s.append(time.monotonic() - began_s)
    return {
        "compute_type": loaded.facts.compute_type,
        "text": "".join(segment.text for segment in result.segments).strip(),
        "audio_s": len(samples) / SAMPLE_RATE,
        "took_s": min(took_s),
    }


def sandbox() -> Answer:
    """Confine this process, and return what it could still do of that which a worker must not."""
    import resource

    from server.system.sandbox import ProcessLimits, confine

    confine(ProcessLimits(memory_bytes=64 << 20, cpu_s=math.ceil(time.process_time()) + SANDBOX_S, file_bytes=0))
    attempts: dict[str, Callable[[], object]] = {
        "open files": lambda: os.open("/", os.O_RDONLY),
        "connect": lambda: socket.socket(),
        "look files up": lambda: os.stat("/"),
        "signal others": lambda: os.kill(os.getppid(), 0),
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9)),
    }
    done = [name for name, attempt in attempts.items() if _succeeds(attempt)]
    return {"done": done, "refused": [name for name in attempts if name not in done]}


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, ValueError):
        return False
    return True


def _sample() -> "Samples":
    """Return the bundled recording."""
    import numpy as np

    from server.audio.decode import open_audio
    from server.models.catalog import SAMPLE, data_path

    with data_path(SAMPLE).open("rb") as file, open_audio(file, limit_s=SAMPLE_LIMIT_S) as blocks:
        return np.concatenate(list(blocks))


QUESTIONS: dict[str, Callable[..., Answer]] = {
    "cuda": cuda,
    "device": device,
    "codecs": codecs,
    "decode": decode,
    "sandbox": sandbox,
}


def main() -> NoReturn:
    channel, (question, *arguments) = attach()
    logging.disable()  # the answer is the only output
    channel.sendall(json.dumps(answer(question, *arguments)).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
