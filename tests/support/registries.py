"""Loaded models that stay, over any engine."""

from server.engine.interface import EngineLike
from server.models.known_model import KnownModel
from server.pool.served_model import ServedModel
from server.transcript import MAX_WINDOW_S
from tests.support.fakes import FakeEngine


def served_model(
    engine: EngineLike | None = None,
    names: tuple[str, ...] = ("demo",),
    languages: tuple[str, ...] = ("en",),
    *,
    window_s: float = MAX_WINDOW_S,
    created: int = 0,
) -> ServedModel:
    """A loaded model on `engine`, a `FakeEngine` unless given."""
    known = KnownModel(names, languages=languages, window_s=window_s, created=created)
    return ServedModel(engine or FakeEngine(), known)
