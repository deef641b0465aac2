"""Voice activity detection: Silero, through onnxruntime.

Processes blocks as they arrive and carries its state, so memory does not grow with the file. The Silero file
is the one shipped with faster-whisper. Knows no model, no request.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from server.options import VadOptions
from server.transcript import SAMPLE_RATE

Samples = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]

CHUNK = 512  # samples per probability: 32 ms, fixed by Silero at 16 kHz
CONTEXT = 64  # samples of the previous chunk that are prepended to each chunk
HYSTERESIS = 0.15  # speech ends below threshold - HYSTERESIS


@dataclass(frozen=True, slots=True)
class SpeechStart:
    """Speech starts at `sample` of the file."""

    sample: int


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """Speech ended before `sample` of the file."""

    sample: int


SpeechEvent = SpeechStart | SpeechEnd


class SpeechModel:
    """Silero's network: stateless, safe to share between threads."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena would never release the peak of the largest block
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            str(silero_path()), providers=["CPUExecutionProvider"], sess_options=options
        )

    def run(self, rows: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        """Speech probabilities of rows [n, 64 + 512], processed in order from state `h`, `c` [1, 1, 128]."""
        outputs: list[Any] = self._session.run(None, {"input": rows, "h": h, "c": c})
        return np.ravel(outputs[0]), outputs[1], outputs[2]


def silero_path() -> Path:
    """Silero's ONNX file inside faster-whisper, found without importing that package."""
    spec = find_spec("faster_whisper")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("faster-whisper is not installed; its Silero file is needed")
    return Path(spec.submodule_search_locations[0]) / "assets" / "silero_vad_v6.onnx"


class SpeechDetector(Protocol):
    """Finds speech in blocks of a file, in order."""

    def feed(self, block: Samples) -> list[SpeechEvent]: ...

    def close(self) -> list[SpeechEvent]: ...


def make_detector(model: SpeechModel, options: VadOptions) -> SpeechDetector:
    """The detector that `options` select."""
    return Detector(model, options) if options.enabled else EverythingIsSpeech()


class EverythingIsSpeech:
    """The detector for requests that turn detection off."""

    def __init__(self) -> None:
        self._position = 0

    def feed(self, block: Samples) -> list[SpeechEvent]:
        first = self._position == 0 and len(block) > 0
        self._position += len(block)
        return [SpeechStart(0)] if first else []

    def close(self) -> list[SpeechEvent]:
        return [SpeechEnd(self._position)] if self._position else []


class Detector:
    """Turns speech probabilities into starts and ends, with hysteresis and a minimum silence."""

    def __init__(self, model: SpeechModel, options: VadOptions) -> None:
        self._model = model
        self._threshold = options.threshold
        self._silence_below = max(options.threshold - HYSTERESIS, 0.01)
        self._min_silence = options.silence_duration_ms * SAMPLE_RATE // 1000
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)
        self._position = 0  # first sample without a probability
        self._speaking = False
        self._quiet_since: int | None = None

    def feed(self, block: Samples) -> list[SpeechEvent]:
        """Events up to the last whole chunk of the blocks so far."""
        audio = np.concatenate([self._rest, block.astype(np.float32) / 32768.0])
        whole = len(audio) // CHUNK * CHUNK
        self._rest = audio[whole:]
        return list(self._events(audio[:whole])) if whole else []

    def close(self) -> list[SpeechEvent]:
        """The events of the last partial chunk; ongoing speech ends with the file."""
        end = self._position + len(self._rest)
        events = list(self._events(np.pad(self._rest, (0, CHUNK - len(self._rest))))) if len(self._rest) else []
        if self._speaking:
            events.append(SpeechEnd(end))
            self._speaking = False
        return events

    def _events(self, audio: Floats) -> Iterator[SpeechEvent]:
        for probability in self._probabilities(audio):
            at = self._position
            self._position += CHUNK
            if probability >= self._threshold:
                self._quiet_since = None
                if not self._speaking:
                    self._speaking = True
                    yield SpeechStart(at)
            elif self._speaking and probability < self._silence_below:
                if self._quiet_since is None:
                    self._quiet_since = at
                if at - self._quiet_since >= self._min_silence:
                    self._speaking = False
                    yield SpeechEnd(self._quiet_since)
                    self._quiet_since = None

    def _probabilities(self, audio: Floats) -> Floats:
        chunks = audio.reshape(-1, CHUNK)
        contexts = np.vstack([self._context[None], chunks[:-1, -CONTEXT:]])
        self._context = chunks[-1, -CONTEXT:].copy()
        rows = np.hstack([contexts, chunks])
        probabilities, self._h, self._c = self._model.run(rows, self._h, self._c)
        return probabilities
