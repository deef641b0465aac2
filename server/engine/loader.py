"""Loaders: picklable descriptions of a model, so that another process can load it.

Imports the heavy modules that load a model only when they are needed.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from server.engine.interface import Model
from server.engine.limits import BatchLimits
from server.errors import ModelUnavailable
from server.options import ModelOptions
from server.whisper.tuning import prepare_cpu

if TYPE_CHECKING:
    from server.whisper.model import Whisper

PROBE_FRAMES = 200  # the fewest that exercise a device; never twice a model's mel bands (see whisper)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Properties of a loaded model. `row_s`: time of its first window, run alone; `device_bytes`: the memory
    of its GPU, if it has one.
    """

    languages: tuple[str, ...]
    mels: int
    device: str
    compute_type: str
    row_s: float
    prepared: str = ""
    device_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A warmed-up model and its limits. `probe` is a tiny run that raises if the device doesn't work."""

    model: Model
    limits: BatchLimits
    facts: ModelFacts
    probe: Callable[[], None]


class ModelLoader(Protocol):
    """Loads a model. Sent to another process by pickle."""

    def load(self) -> LoadedModel:
        """Takes seconds; raises `ModelUnavailable` with advice on what to do."""
        ...


@dataclass(frozen=True, slots=True)
class WhisperLoader:
    """Loads the model in `folder`, to run with `options`."""

    folder: Path
    options: ModelOptions

    def load(self) -> LoadedModel:
        prepared = prepare_cpu(tune_allocator=self.options.tune_allocator)  # before ctranslate2 is imported
        from server.whisper.devices import gpu_bytes, pick_device

        model, row_s = self._first_that_works()
        limits = BatchLimits.on(model.device, self.options)
        cores = f"{model.workers} batches at once (CPU threads each: {model.threads})"
        facts = ModelFacts(
            languages=model.languages,
            mels=model.mels,
            device=model.device,
            compute_type=model.compute_type,
            row_s=row_s,
            prepared=f"CTranslate2 {version('ctranslate2')}, {prepared}, {cores}",
            device_bytes=gpu_bytes(pick_device(self.options.device)[1]) if model.device == "cuda" else 0,
        )
        return LoadedModel(model, limits, facts, partial(model.warm_up, PROBE_FRAMES))

    def _first_that_works(self) -> tuple["Whisper", float]:
        """The model in the best compute type that works on its device, and the time of its first window, s."""
        from server.whisper.devices import compute_types, pick_device

        device, index = pick_device(self.options.device)
        wanted = self.options.compute_type
        ladder = compute_types(device, index) if wanted == "auto" else (wanted,)
        failures: list[ModelUnavailable] = []
        for compute_type in ladder:
            try:
                model, row_s = self._try_out(device if device == "cpu" else f"{device}:{index}", compute_type)
            except ModelUnavailable as error:
                failures.append(error)
                continue
            for tried, failure in zip(ladder, failures, strict=False):
                logger.warning("%s doesn't work on %s, using %s instead: %s", tried, device, compute_type, failure)
            return model, row_s
        raise failures[0]  # the others most likely have the same cause

    def _try_out(self, device: str, compute_type: str) -> tuple["Whisper", float]:
        from server.whisper.model import Whisper

        model = Whisper(self.folder, replace(self.options, device=device, compute_type=compute_type))
        began_s = time.monotonic()
        try:
            model.warm_up()
        except Exception as error:  # whichever error the device raises
            model.close()
            raise ModelUnavailable(
                f"The model in {self.folder} fails on {device} with {compute_type}: {error}"
            ) from error
        return model, time.monotonic() - began_s
