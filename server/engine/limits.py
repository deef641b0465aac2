"""Limits of an engine's batches and memory, by device."""

from dataclasses import dataclass

from server.options import ModelOptions


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of batches and memory. Batches are in windows; a sampled window counts `best_of` times.

    `mix_classes`: bulk may fill up an interactive batch, which is free on a GPU, as is `encode_together`.
    `spread`: idle workers divide the waiting windows, each having cores of its own.
    `cache_bytes` limits encoder outputs of windows that wait for another step; beyond it they are encoded again.
    """

    interactive: int = 4
    bulk: int = 8
    mix_classes: bool = False
    encode_together: bool = False
    spread: bool = True
    cache_bytes: int = 1 << 30
    max_queued: int = 4096

    @classmethod
    def on(cls, device: str, options: ModelOptions) -> "BatchLimits":
        """The defaults for a device, `cpu` or `cuda`, where `options` leave them open."""
        batch, cache_bytes = options.batch, options.cache_bytes
        if device == "cpu":
            # A CPU encodes windows one by one, and a batch runs to its end: a small one keeps short requests fast.
            return cls(batch or 4, options.bulk_batch or batch or 8, cache_bytes=cache_bytes)
        size = batch or (16 if options.beam_size == 1 else 8)
        return cls(size, size, mix_classes=True, encode_together=True, spread=False, cache_bytes=cache_bytes)
