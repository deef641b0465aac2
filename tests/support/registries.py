"""Loaded models that stay, over any engine, and registries of them."""

from server.engine.interface import EngineLike
from server.errors import ModelUnavailable
from server.keep_alive import FOREVER
from server.models.known_model import KnownModel
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelPool
from server.pool.registry import Registry
from server.pool.served_model import ServedModel, Starting
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


def registry_of(*loaded: ServedModel, cloud_model_ids: bool = True) -> Registry:
    """A registry of models that are loaded and stay; the first is the default."""
    pool = ModelPool(_nothing_else, Budget(lambda _: Need(0, 0)))
    for served in loaded:
        pool.adopt(served.known, served, FOREVER)
    return Registry(pool, cloud_model_ids=cloud_model_ids)


def _nothing_else(known: KnownModel) -> Starting:
    raise ModelUnavailable(f"{known.name} can't be loaded here")
