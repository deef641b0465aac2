"""The memory budget of all models, and how much has to be unloaded for another one. Estimates only.

With several devices each has the same budget, since each has the same models.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from server.engine.limits import BatchLimits
from server.errors import ModelBroken
from server.models.dimensions import PARAMETER_BYTES, RUNTIME_BYTES
from server.models.known_model import KnownModel
from server.settings import Settings
from server.system.machine import memory
from server.system.sizes import in_words

SHARES = {"cpu": 0.75, "cuda": 0.9}  # of all memory; the rest is for media, page cache and other programs


class Need(NamedTuple):
    """Estimated bytes of a model: `usual` at full batch size, `least` at the smallest that works."""

    usual: int
    least: int


@dataclass(frozen=True)
class Budget:
    """`limit_bytes` for all loaded models.

    A model whose usual need is larger may use all of it, alone; one whose least need exceeds `most_bytes`
    can't be loaded.
    """

    estimate: Callable[[KnownModel], Need]
    limit_bytes: float = math.inf
    most_bytes: float = math.inf

    @classmethod
    def of(cls, settings: Settings, device: str, compute_type: str, device_bytes: int) -> "Budget":
        """The budget of `settings`, for models in `compute_type` on a CPU, or on a GPU that has `device_bytes`."""
        usual = BatchLimits.on(device, settings.model_options(device))
        set_bytes = settings.memory_budget_bytes

        def estimate(known: KnownModel) -> Need:
            batch = max(usual.bulk, usual.interactive)
            most = _bytes(known, device, compute_type, batch, settings.beam_size)
            return Need(most, most if set_bytes else _bytes(known, device, compute_type, 1, 1))

        if set_bytes:
            return cls(estimate, set_bytes, set_bytes)
        there = device_bytes if device == "cuda" else (ram.allowed if (ram := memory()) else 0)
        return cls(estimate, there * SHARES[device], there) if there else cls(estimate)

    def need_bytes(self, known: KnownModel) -> float:
        """Bytes to reserve for a model; raises `ModelBroken` for one that can never be loaded."""
        need = self.estimate(known)
        if need.least > self.most_bytes:
            there = f"{in_words(self.most_bytes, 'MiB')} (SOTTO_MEMORY_BUDGET_MB)"
            raise ModelBroken(
                known.name, f"it needs about {in_words(need.least, 'MiB')} of memory, but the limit is {there}"
            )
        return min(need.usual, self.limit_bytes)

    def missing_bytes(self, wanted: KnownModel, others: Iterable[KnownModel]) -> float:
        """Bytes by which `wanted` and `others` exceed the limit; 0 or less if they fit."""
        return self.need_bytes(wanted) + sum(map(self.need_bytes, others)) - self.limit_bytes


def _bytes(known: KnownModel, device: str, compute_type: str, batch: int, beam_size: int) -> int:
    if known.dimensions is None:
        return known.size_bytes + RUNTIME_BYTES[device]
    kind = compute_type if compute_type in PARAMETER_BYTES else "float32"
    return known.dimensions.estimated_bytes(kind, device, batch=batch, beam_size=beam_size)
