"""Starts the loading of a model: in its own process, in one process per device, or in this process."""

import logging
from contextlib import ExitStack
from dataclasses import replace

from server.engine.engine import Engine
from server.engine.interface import EngineLike
from server.engine.loader import ModelFacts, WhisperLoader
from server.engine.multi_device import MultiDeviceEngine
from server.engine.supervisor import SupervisedEngine
from server.models.known_model import KnownModel
from server.pool.served_model import ServedModel
from server.settings import Settings

logger = logging.getLogger(__name__)


class Launch:
    """A model whose processes start loading it at once; several devices share its windows. A `Starting`."""

    def __init__(self, known: KnownModel, settings: Settings) -> None:
        self._known = known
        self._engines: list[SupervisedEngine] = []
        with ExitStack() as unless_begun:
            unless_begun.callback(self.close)
            for device in settings.devices:
                engine = SupervisedEngine(
                    loader_for(known, settings, device),
                    known.name if len(settings.devices) == 1 else f"{known.name} on {device}",
                    log_level=settings.log_level,
                    log_format=settings.log_format,
                    public=known.without_paths,
                    confined_to=known.folder if settings.engine_sandbox else None,
                )
                self._engines.append(engine)
            unless_begun.pop_all()

    def wait(self) -> ServedModel:
        """The model, once every device has loaded it; raises `ModelUnavailable` if one can't, or once closed."""
        # Not earlier: from here on a signal ends the processes too (`pool.loaded`).
        logger.info("loading model %s from %s", self._known.name, self._known.folder)
        facts = [engine.facts() for engine in self._engines]
        engine = self._engines[0] if len(self._engines) == 1 else MultiDeviceEngine(self._engines)
        smallest = min((each.device_bytes for each in facts if each.device_bytes), default=0)
        return served(self._known, engine, replace(facts[0], device_bytes=smallest))

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


class InProcess:
    """Loads a model in this process when `wait` is called. A `Starting`."""

    def __init__(self, known: KnownModel, settings: Settings) -> None:
        self._known = known
        self._loader = loader_for(known, settings, settings.devices[0])

    def wait(self) -> ServedModel:
        loaded = self._loader.load()
        return served(self._known, Engine(loaded.model, loaded.limits), loaded.facts)

    def close(self) -> None:
        """Nothing to do: a failed load leaves nothing behind."""


def loader_for(known: KnownModel, settings: Settings, device: str) -> WhisperLoader:
    options = replace(settings.model_options(device), dynamic_context=known.dynamic_context)
    return WhisperLoader(known.folder, options)


def served(known: KnownModel, engine: EngineLike, facts: ModelFacts) -> ServedModel:
    description = f"{known.folder.name}, {facts.compute_type} on {facts.device}"
    logger.info("model %s is loaded (%s; %s)", known.name, description, facts.prepared)
    return ServedModel(
        engine=engine,
        known=replace(known, languages=facts.languages, mels=facts.mels),
        description=description,
        prepared=facts.prepared,
        device_bytes=facts.device_bytes,
    )
