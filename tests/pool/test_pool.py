"""The lifecycle of models whose engines load at once or on request, and a clock that stands still."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from server.errors import ModelBroken, ModelBusy, SottoError, Unavailable
from server.keep_alive import FOREVER
from server.models.known_model import KnownModel
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelLease, ModelPool
from server.pool.slot import AGAIN_S, ModelSlot
from server.stats import ModelCounters
from tests.support.fakes import DEADLINE_S, eventually, peek
from tests.support.launches import Engines

KEPT_S = 300.0

pytestmark = pytest.mark.anyio


class PoolCase:
    """A keeper with three models of 40, 40 and 70 of 100 bytes."""

    def __init__(self, *, limit_bytes: float = 100, room_s: float = DEADLINE_S, folder: Path = Path()) -> None:
        self.engines = Engines()
        self.time_s = 0.0
        self.pool = ModelPool(
            self.engines.start,
            Budget(lambda known: Need(known.size_bytes, known.size_bytes), limit_bytes, limit_bytes),
            refresh=lambda known: self.engines.refresh(known),
            now_s=lambda: self.time_s,
            room_s=room_s,
        )
        known = [KnownModel((name,), folder / name, size) for name, size in (("a", 40), ("b", 40), ("large", 70))]
        self.pool.set_models(known, KEPT_S)
        self.a, self.b, self.large = self.pool.slots

    async def use(self, slot: ModelSlot, keep_s: float | None = None) -> None:
        lease = await self.hold(slot, keep_s)
        lease.release()

    async def hold(self, slot: ModelSlot, keep_s: float | None = None) -> ModelLease:
        lease = self.pool.lease(slot, keep_s)
        try:
            await lease.model()
        except SottoError:
            lease.release()
            raise
        return lease

    async def settled(self) -> None:
        """When no process is ending any more."""
        await eventually(lambda: not any(slot.ending or slot.loading for slot in self.pool.slots))

    async def after(self, seconds: float) -> None:
        self.time_s += seconds
        self.pool.sweep()
        await self.settled()

    @property
    def loaded(self) -> list[str]:
        return [slot.name for slot in self.pool.slots if slot.served]


@asynccontextmanager
async def pool_case(
    *, limit_bytes: float = 100, room_s: float = DEADLINE_S, folder: Path = Path()
) -> AsyncIterator[PoolCase]:
    case = PoolCase(limit_bytes=limit_bytes, room_s=room_s, folder=folder)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield case
    finally:
        case.engines.load.set()
        case.engines.end.set()
        case.pool.close()
    assert case.engines.running == []


async def test_a_model_is_loaded_on_first_use_and_once() -> None:
    async with pool_case() as case:
        assert case.loaded == []
        await case.use(case.a)
        await case.use(case.a)
        assert case.engines.started == case.loaded == ["a"]


async def test_concurrent_requests_share_one_load() -> None:
    async with pool_case() as case:
        case.engines.load.clear()
        asking = [asyncio.create_task(case.hold(case.a)) for _ in range(20)]
        await peek()
        assert not any(task.done() for task in asking)
        case.engines.load.set()
        leases = await asyncio.gather(*asking)
        assert case.engines.started == ["a"]
        assert len({id(lease.served) for lease in leases}) == 1


async def test_a_load_does_not_hold_up_the_loop_nor_other_models() -> None:
    async with pool_case() as case:
        await case.use(case.b)
        case.engines.load.clear()
        asking = asyncio.create_task(case.hold(case.a))
        await eventually(lambda: case.a.starting is not None)
        await case.use(case.b)
        case.engines.load.set()
        await asking


async def test_a_load_continues_when_all_its_requests_have_gone() -> None:
    async with pool_case() as case:
        case.engines.load.clear()
        lease = case.pool.lease(case.a)
        asking = asyncio.create_task(lease.model())
        await eventually(lambda: case.a.starting is not None)
        asking.cancel()
        lease.release()
        await peek()
        assert case.a.leases == 0
        case.engines.load.set()
        await case.settled()
        assert case.loaded == ["a"]
        await case.after(KEPT_S)
        assert case.loaded == []


async def test_an_idle_model_is_unloaded_after_its_time_and_not_before() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        await case.after(KEPT_S - 1)
        assert case.loaded == ["a"]
        await case.after(1)
        assert (case.loaded, case.engines.running) == ([], [])
        await case.use(case.a)
        assert case.engines.started == ["a", "a"]


async def test_each_use_renews_the_keep_alive() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        await case.after(KEPT_S - 1)
        await case.use(case.a)
        await case.after(KEPT_S - 1)
        assert case.loaded == ["a"]


async def test_a_model_in_use_is_not_unloaded_however_long_it_takes() -> None:
    async with pool_case() as case:
        lease = await case.hold(case.a)
        await case.after(10 * KEPT_S)
        assert case.loaded == ["a"]
        lease.release()
        await case.after(KEPT_S)
        assert case.loaded == []


@pytest.mark.parametrize(
    ("keep_s", "after_s", "loaded"), [(0.0, 0.0, []), (10.0, 9.0, ["a"]), (10.0, 10.0, []), (FOREVER, 1e9, ["a"])]
)
async def test_a_request_says_how_long_the_model_stays(keep_s: float, after_s: float, loaded: list[str]) -> None:
    async with pool_case() as case:
        await case.use(case.a, keep_s)
        await case.after(after_s)
        assert case.loaded == loaded


async def test_the_last_request_sets_the_keep_alive() -> None:
    async with pool_case() as case:
        await case.use(case.a, FOREVER)
        await case.use(case.a)
        await case.after(KEPT_S)
        assert case.loaded == []


async def test_a_model_with_keep_alive_zero_serves_every_waiting_request() -> None:
    async with pool_case() as case:
        case.engines.load.clear()
        asking = [asyncio.create_task(case.hold(case.a, 0.0)) for _ in range(3)]
        await peek()
        case.engines.load.set()
        for lease in await asyncio.gather(*asking):
            assert case.loaded == ["a"]
            lease.release()
        await case.settled()
        assert (case.loaded, case.engines.started) == ([], ["a"])


async def test_a_model_is_loaded_again_only_once_its_process_has_ended() -> None:
    async with pool_case() as case:
        case.engines.end.clear()
        await case.use(case.a, 0.0)
        asking = asyncio.create_task(case.hold(case.a))
        await peek()
        assert case.engines.started == ["a"]
        case.engines.end.set()
        await asking
        assert case.engines.started == ["a", "a"]


async def test_models_stay_side_by_side_while_they_fit() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        await case.use(case.b)
        assert case.loaded == ["a", "b"]


async def test_the_least_recently_used_model_is_evicted() -> None:
    async with pool_case(limit_bytes=110) as case:
        await case.use(case.a)
        case.time_s = 1
        await case.use(case.b)
        case.time_s = 2
        await case.use(case.a)
        await case.use(case.large)
        assert case.loaded == ["a", "large"]
        assert case.b.counters == ModelCounters(loads=1, unloads=1, evictions=1)


async def test_as_many_models_are_evicted_as_needed() -> None:
    async with pool_case() as case:
        await case.use(case.a, FOREVER)
        await case.use(case.b, FOREVER)
        await case.use(case.large)
        assert case.loaded == ["large"]


async def test_a_model_in_use_stays_and_the_load_waits_for_it() -> None:
    async with pool_case() as case:
        lease = await case.hold(case.a)
        await case.use(case.b)
        asking = asyncio.create_task(case.hold(case.large))
        await peek()
        assert case.loaded == ["a", "b"]  # that b goes would be of no use
        lease.release()
        await asking
        assert case.loaded == ["large"]


async def test_memory_counts_until_the_process_has_ended() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        await case.use(case.b)
        case.engines.end.clear()
        asking = asyncio.create_task(case.hold(case.large))
        await eventually(lambda: case.loaded == [])
        case.pool.lease(case.large).release()  # after which all who wait look again
        await peek()
        assert case.engines.started == ["a", "b"]
        case.engines.end.set()
        await asking


async def test_a_request_without_room_gets_a_retry_after() -> None:
    async with pool_case(room_s=0.01) as case:
        lease = await case.hold(case.a)
        with pytest.raises(
            Unavailable, match="not enough memory for the model 'large' while others are in use"
        ) as caught:
            await case.hold(case.large)
        assert caught.value.retry_after_s == 10
        assert not case.large.reason
        lease.release()
        await case.use(case.large)


async def test_no_model_is_evicted_for_requests_that_have_gone() -> None:
    async with pool_case() as case:
        held = await case.hold(case.a)
        lease = case.pool.lease(case.large)
        asking = asyncio.create_task(lease.model())
        await peek()
        asking.cancel()
        lease.release()
        await case.settled()
        held.release()
        await case.settled()
        assert case.loaded == ["a"]


async def test_two_loads_that_wait_for_memory_follow_each_other() -> None:
    async with pool_case(limit_bytes=70) as case:
        lease = await case.hold(case.large)
        asking = [asyncio.create_task(case.use(slot)) for slot in (case.a, case.b)]
        await peek()
        lease.release()
        await asyncio.gather(*asking)
        assert len(case.loaded) == 1
        assert sorted(case.engines.started[1:]) == ["a", "b"]


async def test_a_model_that_can_never_fit_is_refused_without_evictions() -> None:
    async with pool_case(limit_bytes=60) as case:
        await case.use(case.a)
        with pytest.raises(ModelBroken, match="SOTTO_MEMORY_BUDGET_MB"):
            await case.hold(case.large)
        assert case.loaded == ["a"]


async def test_a_failed_load_fails_every_waiting_request_and_is_not_retried() -> None:
    async with pool_case() as case:
        case.engines.fails = "its files are cut off"
        case.engines.load.clear()
        asking = [asyncio.create_task(case.hold(case.a)) for _ in range(3)]
        await peek()
        case.engines.load.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert {str(error) for error in errors} == {"The model 'a' can't be loaded: its files are cut off"}
        with pytest.raises(ModelBroken) as caught:
            await case.hold(case.a)
        assert (caught.value.status, caught.value.retry_after_s) == (503, None)
        assert case.engines.started == ["a"]
        assert case.a.counters == ModelCounters(failures=1)
        case.engines.fails = ""
        await case.use(case.b)


async def test_files_with_a_problem_start_no_process_and_evict_no_model() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        await case.use(case.b)
        case.engines.problem = "it lacks tokenizer.json"
        with pytest.raises(ModelBroken, match=r"'large' can't be loaded: it lacks tokenizer\.json"):
            await case.hold(case.large)
        assert case.loaded == case.engines.started == ["a", "b"]


async def test_a_broken_model_is_tried_again_when_its_files_have_changed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with pool_case(folder=tmp_path) as case:
        case.engines.fails = "cut off"
        with pytest.raises(ModelBroken):
            await case.hold(case.a)
        case.engines.fails = ""
        with pytest.raises(ModelBroken):
            await case.hold(case.a)
        (tmp_path / "a" / "model.bin").write_text("whole")
        await case.use(case.a)
        assert (case.loaded, case.a.reason) == (["a"], "")


async def test_a_broken_model_is_tried_again_when_an_operator_loads_it() -> None:
    async with pool_case() as case:
        case.engines.fails = "cut off"
        with pytest.raises(ModelBroken):
            await case.hold(case.a)
        with pytest.raises(ModelBroken):
            await case.pool.load(case.a)
        case.engines.fails = ""
        await case.pool.load(case.a)
        assert (case.loaded, case.a.leases, case.a.reason) == (["a"], 0, "")


async def test_an_engine_that_has_failed_for_good_is_replaced_when_an_operator_loads_it() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        await case.pool.load(case.a)
        assert case.engines.started == ["a"]
        case.engines.running[0].state = "broken"
        await case.pool.load(case.a)
        assert case.engines.started == ["a", "a"]


async def test_a_model_that_did_load_before_is_tried_again_after_a_while() -> None:
    async with pool_case() as case:
        await case.use(case.a, 0.0)
        await case.settled()
        case.engines.fails = "no memory left on the GPU"
        with pytest.raises(ModelBroken):
            await case.hold(case.a)
        case.engines.fails = ""
        case.time_s += AGAIN_S - 1
        with pytest.raises(ModelBroken):
            await case.hold(case.a)
        case.time_s += 1
        await case.use(case.a)
        assert case.loaded == ["a"]


async def test_an_operator_unloads_what_is_idle_and_the_process_has_ended_then() -> None:
    async with pool_case() as case:
        await case.use(case.a, FOREVER)
        await case.pool.unload(case.a)
        assert (case.loaded, case.engines.running) == ([], [])
        await case.pool.unload(case.a)
        assert case.a.counters == ModelCounters(loads=1, unloads=1)


async def test_a_model_in_use_or_being_loaded_is_not_unloaded() -> None:
    async with pool_case() as case:
        lease = await case.hold(case.a)
        with pytest.raises(ModelBusy, match="'a' is in use"):
            await case.pool.unload(case.a)
        lease.release()
        case.engines.load.clear()
        asking = asyncio.create_task(case.hold(case.b))
        await peek()
        with pytest.raises(ModelBusy):
            await case.pool.unload(case.b)
        case.engines.load.set()
        (await asking).release()
        assert case.loaded == ["a", "b"]


async def test_an_unload_may_wait_for_requests_under_way() -> None:
    async with pool_case() as case:
        lease = await case.hold(case.a)
        unloading = asyncio.create_task(case.pool.unload(case.a, wait_s=DEADLINE_S))
        await peek()
        assert case.loaded == ["a"]
        lease.release()
        await unloading
        assert (case.loaded, case.engines.running) == ([], [])


async def test_a_model_removed_from_disk_is_unloaded_when_idle_and_forgotten() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        lease = await case.hold(case.b)
        case.pool.set_models([case.large.known], KEPT_S)
        await case.after(0)
        assert [slot.name for slot in case.pool.slots if not slot.gone] == ["large"]
        assert case.loaded == ["b"]
        lease.release()
        await case.after(0)
        await case.after(0)
        assert case.pool.slots == [case.large]


async def test_a_model_removed_from_disk_while_it_loads_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pool_case() as case:
        resolve = threading.Event()
        monkeypatch.setattr(case.engines, "refresh", lambda known: known if resolve.wait(DEADLINE_S) else None)
        lease = case.pool.lease(case.a)
        asking = asyncio.create_task(lease.model())
        await eventually(lambda: case.a.loading is not None)
        asking.cancel()
        lease.release()
        case.pool.set_models([], KEPT_S)
        case.pool.sweep()
        resolve.set()
        await eventually(lambda: case.a.loading is None)
        await case.after(0)
        assert case.engines.started == ["a"]
        assert case.engines.running == []


async def test_closing_ends_loaded_and_loading_models() -> None:
    async with pool_case() as case:
        await case.use(case.a)
        case.engines.load.clear()
        asking = asyncio.create_task(case.hold(case.b))
        await eventually(lambda: case.b.starting is not None)
        await asyncio.to_thread(case.pool.close)
        with pytest.raises(Unavailable, match="shutting down"):
            await asking
        assert case.engines.running == []
        with pytest.raises(Unavailable, match="shutting down"):
            await case.hold(case.large)


def test_a_model_is_preloaded_only_if_there_is_room() -> None:
    case = PoolCase()
    case.pool.slots = []
    case.pool.preload(case.a.known, FOREVER)
    case.pool.preload(case.large.known, FOREVER)  # too large beside it
    case.engines.fails = "cut off"
    case.pool.preload(case.b.known, FOREVER)
    assert [slot.name for slot in case.pool.slots] == ["a", "large", "b"]
    assert case.loaded == ["a"]
    assert [slot.reason for slot in case.pool.slots] == ["", "", "cut off"]
    case.pool.close()
    assert case.engines.running == []
