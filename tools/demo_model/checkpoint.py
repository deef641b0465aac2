"""A training run's state on disk: the last weights, their moving average, and what rebuilds the network."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from tools.demo_model.model import Demo

State = dict[str, Tensor]
Weights = Literal["ema", "model"]


@dataclass(frozen=True)
class Checkpoint:
    """`ema` is the moving average of the weights, `model` the last ones; a shipped checkpoint leaves these out."""

    ema: State
    cfg: dict[str, int]
    active: list[int]
    model: State | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**torch.load(path))

    def write(self, path: Path) -> None:
        """Write so that the file is never half there."""
        unfinished = path.with_suffix(".tmp")
        torch.save(vars(self), unfinished)
        os.replace(unfinished, path)

    def weights(self, which: Weights) -> State:
        """Return weights in single precision; a shipped checkpoint may hold halves."""
        state = self.ema if which == "ema" else self.model
        if state is None:
            raise ValueError("the checkpoint holds the moving average only")
        return {name: value.float() for name, value in state.items()}

    def network(self, which: Weights = "ema") -> Demo:
        """Return the network with its weights."""
        network = Demo(self.active, **self.cfg)
        network.load_state_dict(self.weights(which))
        return network
