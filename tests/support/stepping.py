"""A batch brought through a model step by step, without an engine: what the engine's results are held against."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import groupby

from server.engine.interface import Model
from server.options import DecodingOptions
from server.transcript import Window, WindowResult
from server.whisper.decoding import WindowState


def transcribe(model: Model, batch: Sequence[tuple[Window, DecodingOptions]]) -> list[WindowResult]:
    """Results of `batch`, whatever can be done together done together."""
    states = [model.start(window, options) for window, options in batch]
    while undecided := [one for one in states if one.decoded is None]:
        for group in _groups(undecided, model.decode_key):
            for one in group:
                if one.encoded is None:
                    model.encode([one])
            if unknown := [one for one in group if one.options.language is None]:
                model.detect(unknown)
            model.generate(group)
    for group in _groups([one for one in states if one.align_tokens], model.align_key):
        model.align(group)
    return [model.result(one) for one in states]


def _groups(states: list[WindowState], key: Callable[[WindowState], Hashable]) -> Iterator[list[WindowState]]:
    for _, group in groupby(sorted(states, key=lambda one: repr(key(one))), key):
        yield list(group)
