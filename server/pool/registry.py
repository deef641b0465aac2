"""Which models requests may name, and how each of them is now. What a client writes is looked up among these names:
never a download, nor a path."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
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

ON_DEMAND_S = 300.0  # that a model stays which nobody chose, unless SOTTO_KEEP_ALIVE says
WATCH_S = 1.0
PRESENCE_BY_STATE: Mapping[str, Presence] = {"ready": "loaded", "broken": "broken"}  # of engines; else loading


logger = logging.getLogger(__name__)


class ModelSource(Protocol):
    """What tells which models there are, as `server.models.available.AvailableModels` does."""

    def models(self) -> list[KnownModel]: ...

    def stamp(self) -> object: ...


class Registry:
    """The models that requests can use; the first is the default. For one event loop; `close` ends all engines."""

    def __init__(
        self,
        pool: ModelPool,
        *,
        stock: ModelSource | None = None,
        on_demand_s: float = FOREVER,
        cloud_model_ids: bool = True,
    ) -> None:
        """The models of `pool`, and those of `stock`, which it loads when they are asked for and keeps for
        `on_demand_s` after that. With `cloud_model_ids` requests may name the default one by the ids under which
        clouds host Whisper."""
        self._pool = pool
        self._stock = stock
        self._stamp: object = None
        self._scanning = asyncio.Lock()  # of two looks at once the older one would have the last word
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
        """The same, for what is done to a model: another cloud's id of one that isn't installed means none."""
        if slot := self._named(name):
            return slot
        raise self._not_found(name)

    def lease(self, slot: ModelSlot, keep_s: float | None = None) -> ModelLease:
        """Hold a model for a request, and have it loaded if it isn't; `keep_s` is for how long to keep it then."""
        return self._pool.lease(slot, keep_s)

    def ids(self) -> list[str]:
        """Every id to offer clients, models before cloud names. A demo that isn't the default is left out, though
        requests may name it."""
        offered = (slot for slot in self._slots() if slot is self.default or not slot.known.demo)
        names = (name for slot in offered for name in slot.known.names)
        return [*dict.fromkeys(names), *cloud_ids.LISTED]

    def states(self) -> list[ModelState]:
        """How every model is now, the default one first."""
        return [self.state(slot) for slot in self._slots()]

    def state(self, slot: ModelSlot) -> ModelState:
        """How one is now."""
        known, served = slot.known, slot.served
        stats = served.engine.stats() if served else None
        presence = _presence(slot, stats)
        return ModelState(
            names=known.names,
            presence=presence,
            folder=known.folder,
            size_bytes=known.size_bytes,
            languages=(served.known if served else known).languages,
            created=known.created,
            demo=known.demo,
            reason=stats.reason if stats else slot.reason if presence == "broken" else "",
            device=stats.device if stats else "",
            compute_type=stats.compute_type if stats else "",
            estimated_bytes=self._pool.budget.estimate(known).usual,
            memory_bytes=stats.memory_bytes if stats else 0,
            requests=slot.leases,
            queued=stats.queued if stats else 0,
            running=stats.running if stats else 0,
            last_used=self._clock(slot.last_used_s),
            expires_at=self._clock(slot.expires_s) if slot.is_idle else None,
            counters=slot.tally,
        )

    def stats(self) -> dict[str, EngineStats]:
        """What the engine of each loaded model tells of itself, by name."""
        return {slot.name: slot.served.engine.stats() for slot in self._slots() if slot.served}

    def not_ready_reason(self) -> str:
        """Why the default model would serve no request now; empty where it would, if need be once it is loaded."""
        slot = self.default
        if slot.served is None:
            return "" if slot.loading or slot.may_be_tried(self._pool.now_s()) else slot.reason
        stats = slot.served.engine.stats()
        return "" if stats.state == "ready" else stats.reason or f"The model '{slot.name}' is {stats.state}."

    async def load(self, name: str, keep_s: float | None = None) -> ModelState:
        """Load a model and return once it is; also one that was broken. Raises as a request for it would."""
        slot = self.named(name)
        await self._pool.load(slot, keep_s)
        return self.state(slot)

    async def unload(self, name: str, *, wait_s: float = 0.0) -> ModelState:
        """End a model's process and return once its memory is free. Raises `ModelNotFound`, and `ModelBusy` where
        requests use it for longer than `wait_s`."""
        slot = self.named(name)
        await self._pool.unload(slot, wait_s=wait_s)
        return self.state(slot)

    async def rescan(self) -> None:
        """See which models there are now: new ones become available, those that are gone are forgotten."""
        if self._stock:
            async with self._scanning:
                self._stamp = await asyncio.to_thread(self._stock.stamp)
                self._pool.stock(await asyncio.to_thread(self._stock.models), self._on_demand_s)

    async def watch(self) -> NoReturn:
        """Unload what is no longer kept, and notice what comes and goes on the disk."""
        while True:
            try:
                self._pool.sweep()
                if self._stock and await asyncio.to_thread(self._stock.stamp) != self._stamp:
                    await self.rescan()
            except Exception:  # whatever a disk answers, models are still to be unloaded
                logger.exception("the models on this machine can't be looked at")
            await asyncio.sleep(WATCH_S)

    def close(self) -> None:
        self._pool.close()

    def _named(self, name: str) -> ModelSlot | None:
        """The model of that name; the default for none, and for OpenAI's ids."""
        wanted = _folded(name)
        if not name or cloud_ids.is_openai(wanted):
            return self.default
        return next((slot for slot in self._slots() if wanted in map(str.casefold, slot.known.names)), None)

    def _not_found(self, name: str) -> ModelNotFound:
        here = ", ".join(self.ids())
        return ModelNotFound(name, f" or is not installed here; this server has {here} (others: sotto models pull)")

    def _slots(self) -> Iterator[ModelSlot]:
        return (slot for slot in self._pool.slots if not slot.gone)

    def _clock(self, at_s: float | None) -> float | None:
        """A time of the keeper's, in seconds since 1970."""
        return None if at_s is None or at_s == FOREVER else time.time() + at_s - self._pool.now_s()


def load(settings: Settings, *, in_process: bool = False) -> Registry:
    """The registry that `settings` ask for, its default model found or pulled, loaded and warm. Takes seconds.

    Models run in processes of their own; `in_process` there is only the default one, here. Raises
    `ModelUnavailable` with what to do about it.
    """
    inventory = AvailableModels(settings)
    start = partial(InProcess if in_process else Launch, settings=settings)
    default, *others = inventory.chosen
    served = loaded(start(default))
    stats = served.engine.stats()
    budget = Budget.of(settings, stats.device, stats.compute_type, served.device_bytes)
    keeper = ModelPool(start, budget, look=inventory.look)
    chosen_s, on_demand_s = (FOREVER, ON_DEMAND_S) if settings.keep_alive is None else (settings.keep_alive,) * 2
    try:
        budget.need_bytes(default)
        keeper.adopt(default, served, FOREVER if in_process else chosen_s)
        if not in_process:
            for known in others:
                keeper.preload(known, chosen_s)
            keeper.stock(inventory.models(), on_demand_s)
    except BaseException:  # a signal too
        served.engine.close()
        keeper.close()
        raise
    return Registry(
        keeper,
        stock=None if in_process else inventory,
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
