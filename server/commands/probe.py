"""The child process in which `sotto doctor` tries something out, and which may crash on it.

Its answer is one JSON object. What it loads, it loads late: a library that can't be loaded is an answer too.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from server.system.child_process import attach

if TYPE_CHECKING:
    from server.audio.decode import Samples

RUNS = 2  # the first one pays for what comes only once
SAMPLE_LIMIT_S = 60.0

Answer = dict[str, Any]


def answer(question: str, *arguments: str) -> Answer:
    """What one of `QUESTIONS` leads to; `error` alone where that fails."""
    try:
        return QUESTIONS[question](*arguments)
    except Exception as error:  # the boundary of a process
        return {"error": str(error) or type(error).__name__}


def cuda() -> Answer:
    """How many GPUs CTranslate2 sees, and whether it could compute on them."""
    from server.whisper.devices import cublas_advice, gpus, load_cublas

    return {"count": gpus(), "cublas": load_cublas(), "advice": cublas_advice()}


def device(asked: str) -> Answer:
    """What a setting comes down to, the compute types that are tried there, and all that there are."""
    from server.whisper.devices import compute_types, pick_device, supported_types

    name, index = pick_device(asked)
    picked = name if name == "cpu" else f"{name}:{index}"
    return {
        "device": picked,
        "ladder": compute_types(name, index),
        "supported": supported_types(name, index),
    }


def codecs() -> Answer:
    """Usual kinds of recordings that can be read, and that can't, once one has been read."""
    from server.audio.decode import USUAL, lacking

    _sample()
    lacks = lacking()
    return {"reads": [kind for kind in USUAL if kind not in lacks], "lacks": lacks}


def decode(loader: str) -> Answer:
    """What a model hears in the bundled recording, and how fast; `loader` is a `WhisperLoader` in JSON."""
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


def _sample() -> "Samples":
    """The bundled recording."""
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
}


def main() -> NoReturn:
    channel, (question, *arguments) = attach()
    logging.disable()  # what it has to say is its answer
    channel.sendall(json.dumps(answer(question, *arguments)).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
