"""Which models are loaded, under which names requests may ask for them, and how they come to be loaded."""

import logging
import re
import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from server.engine import Engine
from server.errors import ModelNotFound
from server.options import DecodingOptions
from server.recipe import Facts, WhisperRecipe
from server.settings import Settings
from server.stats import EngineStats, Priority
from server.supervise import Supervised
from server.transcript import MAX_WINDOW_S, Window, WindowResult

# Ids that clients have hard-coded: all mean the default model.
CLOUD_NAMES = ("whisper-1",)
# The look ahead comes first: a megabyte of "transcribe" and then no fit would take minutes.
CLOUD_PATTERN = re.compile(r"gpt-(?=[\w.-]*\Z).*transcribe.*", re.ASCII)

logger = logging.getLogger(__name__)


class EngineLike(Protocol):
    """What the flow needs of an engine, in this process or behind a pipe."""

    max_batch: int

    def submit(
        self, window: Window, options: DecodingOptions, *, request: str, priority: Priority = "bulk"
    ) -> Future[WindowResult]: ...

    def cancel(self, request: str) -> None: ...

    def position(self, request: str) -> int: ...

    def stats(self) -> EngineStats: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class ServedModel:
    """A loaded model: its engine, its names (the first is its id) and what is known of it."""

    engine: EngineLike
    names: tuple[str, ...]
    languages: tuple[str, ...]
    window_s: float = MAX_WINDOW_S
    mels: int = 80
    description: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        return self.names[0]


class Registry:
    """The models that requests can use; the first is the default. `close` ends their engines."""

    def __init__(self, *models: ServedModel) -> None:
        self._models = models

    @property
    def default(self) -> ServedModel:
        return self._models[0]

    def find(self, name: str) -> ServedModel:
        """The model that `name` means (empty: the default), or `ModelNotFound`. Never a download or a path."""
        wanted = name.strip().casefold()
        if not wanted or wanted in CLOUD_NAMES or CLOUD_PATTERN.fullmatch(wanted):
            return self.default
        for model in self._models:
            if wanted in (known.casefold() for known in model.names):
                return model
        raise ModelNotFound(name, f" or is not loaded here; this server has {', '.join(self.ids())}")

    def ids(self) -> list[str]:
        """Every id a client may ask for, models before cloud names."""
        return [name for model in self._models for name in model.names] + list(CLOUD_NAMES)

    def stats(self) -> dict[str, EngineStats]:
        """What each model's engine tells of itself, by name."""
        return {model.name: model.engine.stats() for model in self._models}

    def close(self) -> None:
        for model in self._models:
            model.engine.close()


def load(settings: Settings, *, in_process: bool = False) -> Registry:
    """The registry that `settings` ask for: its model found or pulled, loaded and warm. Takes seconds.

    The model runs in a process of its own unless `in_process`. Raises `ModelUnavailable` with what to do about it.
    """
    from server.catalog import resolve

    found = resolve(settings.model, settings.models_dir)
    folder = found.folder
    if folder is None:
        from server.hub import pull  # heavy, and seldom needed

        folder = pull(
            found.repository or found.name,
            found.files,
            found.target,
            offline=settings.offline,
            progress=sys.stderr,
        )
    recipe = WhisperRecipe(
        folder,
        device=settings.device,
        compute_type=settings.compute_type,
        threads=settings.threads,
        workers=settings.workers,
        prompt_bucket=settings.prompt_bucket,
        dynamic_context=settings.encoder_window == "auto"
        and found.model is not None
        and found.model.dynamic_context,
        tune_allocator=settings.tune_allocator,
        batch=settings.batch,
        bulk_batch=settings.bulk_batch,
        beam_size=settings.beam_size,
        cache_bytes=settings.encoder_cache_mb << 20,
    )
    names = tuple(found.model.names) if found.model else (found.name,)
    engine, facts = _here(recipe) if in_process else _supervised(recipe, names[0], settings)
    served = ServedModel(
        engine=engine,
        names=names,
        languages=facts.languages,
        window_s=found.window_s,
        mels=facts.mels,
        description=f"{folder.name}, {facts.compute_type} on {facts.device}",
    )
    logger.info("model %s is loaded (%s; %s)", served.name, served.description, facts.prepared)
    return Registry(served)


def _here(recipe: WhisperRecipe) -> tuple[EngineLike, Facts]:
    loaded = recipe.load()
    return Engine(loaded.model, loaded.limits), loaded.facts


def _supervised(recipe: WhisperRecipe, name: str, settings: Settings) -> tuple[EngineLike, Facts]:
    engine = Supervised(recipe, name, log_level=settings.log_level, log_format=settings.log_format)
    try:
        logger.info("loading model %s from %s", name, recipe.folder)
        return engine, engine.facts()
    except BaseException:  # a signal too
        engine.close()
        raise
