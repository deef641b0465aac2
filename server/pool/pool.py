"""The lifecycle of models: loaded on demand; unloaded after a time without requests, or to make room.

For one event loop, so nothing here takes a lock. Slow operations, loading or ending a process, run in threads.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from server.errors import Cancelled, ModelBroken, ModelBusy, ModelUnavailable, SottoError, Unavailable
from server.models.known_model import KnownModel
from server.pool.memory_budget import Budget
from server.pool.served_model import ServedModel, Starting
from server.pool.slot import ModelSlot

ROOM_S = 30.0  # maximum wait of a load for other models to become idle
RETRY_S = 10  # Retry-After for a client when there was no room
STOPPING = "The server is shutting down."
THREADS = 8  # for simultaneous loads and unloads

Result = TypeVar("Result")
Refresh = Callable[[KnownModel], KnownModel]

logger = logging.getLogger(__name__)


class ModelLease:
    """A request's hold on a model: a leased model is not unloaded. Must be released."""

    def __init__(self, pool: "ModelPool", slot: ModelSlot, keep_s: float) -> None:
        self.known = slot.known
        self._pool = pool
        self._slot = slot
        self._keep_s = keep_s
        self._held = True
        slot.leases += 1

    @property
    def served(self) -> ServedModel | None:
        return self._slot.served

    async def model(self) -> ServedModel:
        """The model, once it is loaded. Raises `ModelBroken`, and `Unavailable` if there is no room in time."""
        return await self._pool.model_of(self._slot)

    def release(self) -> None:
        if self._held:
            self._held = False
            self._pool.release(self._slot, self._keep_s)


class ModelPool:
    """Loads and unloads models within a budget. `close` ends all their processes."""

    def __init__(
        self,
        start: Callable[[KnownModel], Starting],
        budget: Budget,
        *,
        refresh: Refresh = lambda known: known,
        now_s: Callable[[], float] = time.monotonic,
        room_s: float = ROOM_S,
    ) -> None:
        """`start` begins a load; before that, `refresh` reads the current state of a model's files."""
        self.slots: list[ModelSlot] = []
        self.budget = budget
        self.now_s = now_s
        self._start = start
        self._refresh = refresh
        self._room_s = room_s
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(THREADS, "models")
        self._closed = False

    def adopt(self, known: KnownModel, served: ServedModel, keep_s: float) -> None:
        """Add a model that is already loaded."""
        slot = ModelSlot(known, keep_s)
        slot.served, slot.last_used_s = served, self.now_s()
        slot.count("loads")
        self.slots.append(slot)

    def preload(self, known: KnownModel, keep_s: float) -> None:
        """Load a model before the loop runs. If it doesn't fit or is broken, log that and go on."""
        slot = ModelSlot(known, keep_s)
        try:
            if self._missing_bytes(slot) > 0:
                logger.warning("not enough memory to preload model %s (SOTTO_MEMORY_BUDGET_MB)", known.name)
            else:
                self.adopt(known, loaded(self._start(known)), keep_s)
                return
        except ModelUnavailable as error:
            self._fail(slot, _error_of(known, error))
        self.slots.append(slot)

    def set_models(self, models: list[KnownModel], keep_s: float) -> None:
        """Update the list of models; new ones are kept for `keep_s` after use."""
        known = {model.folder: model for model in models}
        for slot in self.slots:
            if model := known.pop(slot.known.folder, None):
                _log_problem(model, before=slot.reason)
                slot.update(model)
            else:
                slot.gone = True
        for model in known.values():
            _log_problem(model)
            self.slots.append(ModelSlot(model, keep_s))

    def lease(self, slot: ModelSlot, keep_s: float | None = None) -> ModelLease:
        """Hold a model for a request, which may set how long the model is kept afterwards."""
        return ModelLease(self, slot, slot.keep_s if keep_s is None else keep_s)

    def release(self, slot: ModelSlot, keep_s: float) -> None:
        """Used by `ModelLease` only."""
        slot.leases -= 1
        slot.kept_s, slot.last_used_s = keep_s, self.now_s()
        self._unload_if_expired(slot)
        self._notify()

    async def model_of(self, slot: ModelSlot) -> ServedModel:
        """Used by `ModelLease` only: all waiting requests share one load, which continues if they leave."""
        if slot.served:
            return slot.served
        if self._closed:
            raise Unavailable(STOPPING)
        if slot.loading is None:
            if not slot.may_be_loaded(self.now_s()):
                raise _broken(slot.known, slot.reason)
            slot.loading = asyncio.create_task(self._load(slot))
        result = await asyncio.shield(slot.loading)
        if isinstance(result, SottoError):
            raise result
        return result

    async def load(self, slot: ModelSlot, keep_s: float | None = None) -> ServedModel:
        """Load a model without a request, also one that could not be loaded before or fails now."""
        slot.reason = ""
        if slot.served and slot.is_idle and slot.served.engine.stats().state == "broken":
            self._end(slot)
        lease = self.lease(slot, keep_s)
        try:
            return await lease.model()
        finally:
            lease.release()

    async def unload(self, slot: ModelSlot, *, wait_s: float = 0.0) -> None:
        """End a model's process, and return once it has exited; raises `ModelBusy` if it is in use for longer than
        `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while slot.leases or slot.loading:
                    await self._changed.wait()
        except TimeoutError:
            raise ModelBusy(slot.name) from None
        self._end(slot)
        if slot.ending:
            await asyncio.wait([slot.ending])

    def sweep(self) -> None:
        """Unload models whose keep-alive has expired, and forget those that are gone."""
        for slot in self.slots:
            self._unload_if_expired(slot)
        self.slots = [
            slot for slot in self.slots if not slot.gone or slot.leases or slot.loading or slot.holds_memory
        ]

    def close(self) -> None:
        """End every process, even a busy one. From any thread; called again after the loop, for late loads."""
        self._closed = True
        for slot in self.slots:
            for open_now in (slot.starting, slot.served and slot.served.engine):
                if open_now:
                    open_now.close()
        self._threads.shutdown(wait=False)

    async def _load(self, slot: ModelSlot) -> ServedModel | SottoError:
        try:
            slot.known = await self._in_thread(self._refresh, slot.known)
            if slot.known.problem:
                raise _broken(slot.known, slot.known.problem)
            await self._make_room(slot)
            slot.served = await self._start_up(slot)
            return slot.served
        except SottoError as error:
            if isinstance(error, ModelBroken):
                self._fail(slot, error)
            return error
        finally:
            slot.loading = None
            self._notify()

    async def _make_room(self, slot: ModelSlot) -> None:
        """Return when there is memory for the model, which must then be taken without another await."""
        try:
            async with asyncio.timeout(self._room_s):
                while slot.ending or self._missing_bytes(slot) > 0:
                    if not slot.leases:
                        raise Cancelled(f"No client is waiting for the model '{slot.name}'.")
                    self._evict_for(slot)
                    await self._changed.wait()
        except TimeoutError:
            text = (
                f"There is not enough memory for the model '{slot.name}' while others are in use "
                "(SOTTO_MEMORY_BUDGET_MB)."
            )
            raise Unavailable(f"{text} Please try again in {RETRY_S}s.", retry_after_s=RETRY_S) from None

    def _missing_bytes(self, slot: ModelSlot) -> float:
        others = (other.known for other in self.slots if other.holds_memory and other is not slot)
        return self.budget.missing_bytes(slot.known, others)

    def _evict_for(self, slot: ModelSlot) -> None:
        """Unload the least recently used idle models, if that and the unloads in progress make enough room."""
        need = self.budget.need_bytes
        missing = self._missing_bytes(slot) - sum(need(other.known) for other in self.slots if other.ending)
        idle = sorted((other for other in self.slots if other.is_idle), key=lambda other: other.last_used_s or 0.0)
        if missing > sum(need(other.known) for other in idle):
            return
        for other in idle:
            if missing > 0:
                missing -= need(other.known)
                logger.info("unloading model %s to make room for %s", other.name, slot.name)
                other.count("evictions")
                self._end(other)

    async def _start_up(self, slot: ModelSlot) -> ServedModel:
        if self._closed:
            raise Unavailable(STOPPING)
        slot.starting = self._start(slot.known)
        try:
            served = await self._in_thread(loaded, slot.starting)
        except ModelUnavailable as error:
            if self._closed:
                raise Unavailable(STOPPING) from error
            raise _error_of(slot.known, error) from error
        finally:
            slot.starting = None
        slot.reason, slot.last_used_s = "", self.now_s()
        slot.count("loads")
        return served

    def _fail(self, slot: ModelSlot, error: ModelBroken) -> None:
        logger.error("%s", error.in_full())
        slot.fail(error.reason, self.now_s())

    def _unload_if_expired(self, slot: ModelSlot) -> None:
        if slot.is_idle and (slot.gone or self.now_s() >= slot.expires_s):
            logger.info("unloading idle model %s", slot.name)
            self._end(slot)

    def _end(self, slot: ModelSlot) -> None:
        if slot.served and not self._closed:
            slot.count("unloads")
            loop = asyncio.get_running_loop()
            slot.ending = loop.run_in_executor(self._threads, slot.served.engine.close)
            slot.ending.add_done_callback(partial(self._ended, slot))
            slot.served = None

    def _ended(self, slot: ModelSlot, ending: asyncio.Future[None]) -> None:
        if error := ending.exception():
            logger.error("model %s could not be unloaded cleanly", slot.name, exc_info=error)
        slot.ending = None
        self._notify()

    def _notify(self) -> None:
        """Wake all tasks that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _in_thread(self, call: Callable[..., Result], *arguments: object) -> Result:
        if self._closed:
            raise Unavailable(STOPPING)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def loaded(starting: Starting) -> ServedModel:
    """Wait for the load; closes it if that raises."""
    try:
        return starting.wait()
    except BaseException:  # including signals
        starting.close()
        raise


def _error_of(known: KnownModel, error: ModelUnavailable) -> ModelBroken:
    return error if isinstance(error, ModelBroken) else _broken(known, error.message)


def _log_problem(known: KnownModel, before: str = "") -> None:
    """Clients that name the model do not learn where it is; the log says so to the operator."""
    if known.problem and known.problem != before:
        logger.warning("the model '%s' can't be used: %s", known.name, known.problem)


def _broken(known: KnownModel, reason: str) -> ModelBroken:
    return ModelBroken(known.name, reason, public=known.without_paths(reason))
