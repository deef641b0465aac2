"""Bounds of an engine's batches and memory, by device."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of batches and memory. Batches in windows; a sampled window counts `best_of` times.

    `mix_classes`: bulk may fill up an interactive batch, which costs nothing on a GPU. `encode_together`: as well.
    `spread`: idle workers divide what waits, each having cores of its own.
    `cache_bytes` bounds encoder outputs of windows that wait for another step; beyond, they are encoded again.
    """

    interactive: int = 4
    bulk: int = 8
    mix_classes: bool = False
    encode_together: bool = False
    spread: bool = True
    cache_bytes: int = 1 << 30
    max_queued: int = 4096

    @classmethod
    def on(
        cls, device: str, *, batch: int = 0, bulk_batch: int = 0, beam_size: int = 5, cache_bytes: int = 1 << 30
    ) -> "BatchLimits":
        """The limits that suit a device; `batch` and `bulk_batch` above 0 are the operator's word for it."""
        if device == "cpu":
            # A CPU encodes one by one anyway, and a batch runs to its end: a short one keeps short requests quick.
            return cls(batch or 4, bulk_batch or batch or 8, cache_bytes=cache_bytes)
        size = batch or (16 if beam_size == 1 else 8)
        return cls(size, size, mix_classes=True, encode_together=True, spread=False, cache_bytes=cache_bytes)
