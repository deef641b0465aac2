"""The models that requests may name, and the state of each. A client's value is looked up among these names: it
never causes a download, and is never used as a path."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn, Protocol

from server.errors import ModelNotFound
from server.keep_alive import FOREVER
from server.models.available import AvailableModels
from server.models.known_model import KnownModel
from server.pool import cloud_ids
from server.pool.launch import InProcess, Launch
from server.pool.memory_budget import Budget
from server.pool.pool import ModelLease, ModelPool, loaded
from server.pool.slot import ModelSlot
from server.settings import Settings
from server.stats import EngineStats, ModelState, Presence

ON_DEMAND_S = 300.0  # how long a model that was loaded on demand is kept, unless SOTTO_KEEP_ALIVE is set
WATCH_S = 1.0
PRESENCE_BY_STATE: Mapping[str, Presence] = {"ready": "loaded", "broken": "broken"}  # by engine state; else loading


logger = logging.getLogger(__name__)


class ModelSource(Protocol):
    """Lists the models there are, as `server.models.available.AvailableModels` does."""

    def models(self) -> list[KnownModel]: ...

    def stamp(self) -> object: ...


class Registry:
    """The models that requests can use; the first is the default. For one event loop; `close` ends all engines."""

    def __init__(
        self,
        pool: ModelPool,
        *,
        source: ModelSource | None = None,
        on_demand_s: float = FOREVER,
        cloud_model_ids: bool = True,
    ) -> None:
        """The models of `pool`, and those of `source`, which are loaded on demand and kept for `on_demand_s` after
        that. With `cloud_model_ids` requests may name the default model by the ids under which clouds host
        Whisper."""
        self._pool = pool
        self._source = source
        self._stamp: object = None
        self._scanning = asyncio.Lock()  # of two simultaneous scans, the older result could overwrite the newer
        self._on_demand_s = on_demand_s
        self._cloud_model_ids = cloud_model_ids

    @property
    def default(self) -> ModelSlot:
        return self._pool.slots[0]

    def find(self, name: str) -> ModelSlot:
        """The model that answers a request for `name` (empty: the default), or `ModelNotFound`. Never a download or
        a path."""
        if slot := self._named(name):
            return slot
        if self._cloud_model_ids and cloud_ids.is_hosted_whisper(_folded(name)):
            return self.default
        raise self._not_found(name)

    def named(self, name: str) -> ModelSlot:
        """As `find`, but another cloud's id is an error unless a model of that name is installed."""
        if slot := self._named(name):
            return slot
        raise self._not_found(name)

    def lease(self, slot: ModelSlot, keep_s: float | None = None) -> ModelLease:
        """Hold a model for a request, and load it if needed; `keep_s` is how long to keep it afterwards."""
        return self._pool.lease(slot, keep_s)

    def ids(self) -> list[str]:
        """Every id to list for clients, models before cloud ids. A demo that isn't the default is omitted, though
        requests may name it."""
        offered = (slot for slot in self._slots() if slot is self.default or not slot.known.demo)
        names = (name for slot in offered for name in slot.known.names)
        return [*dict.fromkeys(names), *cloud_ids.LISTED]

    def states(self, *, with_paths: bool = False) -> list[ModelState]:
        """The state of every model, the default one first."""
        return [self.state(slot, with_paths=with_paths) for slot in self._slots()]

    def state(self, slot: ModelSlot, *, with_paths: bool = False) -> ModelState:
        """The state of one model; `with_paths` its reason may name files of this machine."""
        known, served = slot.known, slot.served
        stats = served.engine.stats() if served else None
        presence = _presence(slot, stats)
        reason = stats.reason if stats else slot.reason if presence == "broken" else ""
        return ModelState(
            names=known.names,
            presence=presence,
            folder=known.folder,
            size_bytes=known.size_bytes,
            languages=(served.known if served else known).languages,
            created=known.created,
            demo=known.demo,
            reason=reason if with_paths else known.without_paths(reason),
            device=stats.device if stats else "",
            compute_type=stats.compute_type if stats else "",
            estimated_bytes=self._pool.budget.estimate(known).usual,
            memory_bytes=stats.memory_bytes if stats else 0,
            requests=slot.leases,
            queued=stats.queued if stats else 0,
            running=stats.running if stats else 0,
            last_used=self._clock(slot.last_used_s),
            expires_at=self._clock(slot.expires_s) if slot.is_idle else None,
            counters=slot.counters,
        )

    def stats(self) -> dict[str, EngineStats]:
        """The engine statistics of each loaded model, by name."""
        return {slot.name: slot.served.engine.stats() for slot in self._slots() if slot.served}

    def not_ready_reason(self) -> str:
        """The reason why the default model can't serve requests, without paths: strangers may ask. Empty if it can,
        if necessary after loading."""
        slot = self.default
        if slot.served is None:
            reason = "" if slot.loading or slot.may_be_loaded(self._pool.now_s()) else slot.reason
        else:
            stats = slot.served.engine.stats()
            reason = "" if stats.state == "ready" else stats.reason or f"The model '{slot.name}' is {stats.state}."
        return slot.known.without_paths(reason)

    async def load(self, name: str, keep_s: float | None = None) -> ModelState:
        """Load a model, even a broken one, and return once it is loaded. Raises as a request for it would."""
        slot = self.named(name)
        await self._pool.load(slot, keep_s)
        return self.state(slot, with_paths=True)

    async def unload(self, name: str, *, wait_s: float = 0.0) -> ModelState:
        """End a model's process and return once its memory is free. Raises `ModelNotFound`, and `ModelBusy` if
        requests use it for longer than `wait_s`."""
        slot = self.named(name)
        await self._pool.unload(slot, wait_s=wait_s)
        return self.state(slot, with_paths=True)

    @asynccontextmanager
    async def removing(self, slot: ModelSlot) -> AsyncIterator[None]:
        """Unload a model whose files the block removes. Until it ends there is no such model for requests, which
        could load half of it. Raises `ModelNotFound` if it is being removed already, `ModelBusy` if requests use
        it."""
        if not slot.is_offered:
            raise self._not_found(slot.name)
        slot.removing = True
        try:
            await self._pool.unload(slot)
            yield
            await self.rescan()
        finally:
            slot.removing = False

    async def rescan(self) -> None:
        """Rescan the models: new ones become available, removed ones are forgotten."""
        if self._source:
            async with self._scanning:
                self._stamp = await asyncio.to_thread(self._source.stamp)
                self._pool.set_models(await asyncio.to_thread(self._source.models), self._on_demand_s)

    async def watch(self) -> NoReturn:
        """Unload models whose keep-alive has expired, and rescan when files on disk change."""
        while True:
            try:
                self._pool.sweep()
                if self._source and await asyncio.to_thread(self._source.stamp) != self._stamp:
                    await self.rescan()
            except Exception:  # whatever error the disk returns, models must still be unloaded
                logger.exception("the models on this machine can't be listed")
            await asyncio.sleep(WATCH_S)

    def close(self) -> None:
        self._pool.close()

    def _named(self, name: str) -> ModelSlot | None:
        """The model of that name; the default for an empty name, and for OpenAI's ids."""
        wanted = _folded(name)
        if not name or cloud_ids.is_openai(wanted):
            return self.default
        return next((slot for slot in self._slots() if wanted in map(str.casefold, slot.known.names)), None)

    def _not_found(self, name: str) -> ModelNotFound:
        here = ", ".join(self.ids())
        return ModelNotFound(name, f" or is not installed here; this server has {here} (others: sotto models pull)")

    def _slots(self) -> Iterator[ModelSlot]:
        return (slot for slot in self._pool.slots if slot.is_offered)

    def _clock(self, at_s: float | None) -> float | None:
        """Convert a time of the pool's clock to seconds since 1970."""
        return None if at_s is None or at_s == FOREVER else time.time() + at_s - self._pool.now_s()


def load(settings: Settings, *, in_process: bool = False) -> Registry:
    """Build the registry from `settings`: its default model found or pulled, loaded and warmed up. Takes seconds.

    Models run in processes of their own; with `in_process` only the default one is available, in this process.
    Raises `ModelUnavailable` with advice on what to do.
    """
    available = AvailableModels(settings)
    start = partial(InProcess if in_process else Launch, settings=settings)
    default, *others = available.chosen
    served = loaded(start(default))
    stats = served.engine.stats()
    budget = Budget.of(settings, stats.device, stats.compute_type, served.device_bytes)
    pool = ModelPool(start, budget, refresh=available.refresh)
    chosen_s, on_demand_s = (FOREVER, ON_DEMAND_S) if settings.keep_alive is None else (settings.keep_alive,) * 2
    try:
        budget.need_bytes(default)
        pool.adopt(default, served, FOREVER if in_process else chosen_s)
        if not in_process:
            for known in others:
                pool.preload(known, chosen_s)
            pool.set_models(available.models(), on_demand_s)
    except BaseException:  # including signals
        served.engine.close()
        pool.close()
        raise
    return Registry(
        pool,
        source=None if in_process else available,
        on_demand_s=on_demand_s,
        cloud_model_ids=settings.cloud_model_ids,
    )


def _folded(name: str) -> str:
    return name.strip().casefold()


def _presence(slot: ModelSlot, stats: EngineStats | None) -> Presence:
    if stats:
        return PRESENCE_BY_STATE.get(stats.state, "loading")
    if slot.loading:
        return "loading"
    return "broken" if slot.reason else "available"
