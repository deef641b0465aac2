"""The lives of models with engines that load at once or when they are told to, and a clock that stands still."""

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


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class House:
    """A keeper with three models of 40, 40 and 70 of 100 bytes."""

    def __init__(self, *, limit_bytes: float = 100, room_s: float = DEADLINE_S, folder: Path = Path()) -> None:
        self.engines = Engines()
        self.time_s = 0.0
        self.keeper = ModelPool(
            self.engines.start,
            Budget(lambda known: Need(known.size_bytes, known.size_bytes), limit_bytes, limit_bytes),
            look=self.engines.look,
            now_s=lambda: self.time_s,
            room_s=room_s,
        )
        known = [KnownModel((name,), folder / name, size) for name, size in (("a", 40), ("b", 40), ("large", 70))]
        self.keeper.stock(known, KEPT_S)
        self.a, self.b, self.large = self.keeper.slots

    async def use(self, slot: ModelSlot, keep_s: float | None = None) -> None:
        lease = await self.hold(slot, keep_s)
        lease.release()

    async def hold(self, slot: ModelSlot, keep_s: float | None = None) -> ModelLease:
        lease = self.keeper.lease(slot, keep_s)
        try:
            await lease.model()
        except SottoError:
            lease.release()
            raise
        return lease

    async def settled(self) -> None:
        """When no process is ending any more."""
        await eventually(lambda: not any(slot.ending or slot.loading for slot in self.keeper.slots))

    async def after(self, seconds: float) -> None:
        self.time_s += seconds
        self.keeper.sweep()
        await self.settled()

    @property
    def loaded(self) -> list[str]:
        return [slot.name for slot in self.keeper.slots if slot.served]


@asynccontextmanager
async def house(
    *, limit_bytes: float = 100, room_s: float = DEADLINE_S, folder: Path = Path()
) -> AsyncIterator[House]:
    one = House(limit_bytes=limit_bytes, room_s=room_s, folder=folder)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield one
    finally:
        one.engines.load.set()
        one.engines.end.set()
        one.keeper.close()
    assert one.engines.running == []


async def test_a_model_is_loaded_when_it_is_asked_for_and_once() -> None:
    async with house() as one:
        assert one.loaded == []
        await one.use(one.a)
        await one.use(one.a)
        assert one.engines.started == one.loaded == ["a"]


async def test_those_who_ask_meanwhile_share_the_load() -> None:
    async with house() as one:
        one.engines.load.clear()
        asking = [asyncio.create_task(one.hold(one.a)) for _ in range(20)]
        await peek()
        assert not any(task.done() for task in asking)
        one.engines.load.set()
        leases = await asyncio.gather(*asking)
        assert one.engines.started == ["a"]
        assert len({id(lease.served) for lease in leases}) == 1


async def test_a_load_does_not_hold_up_the_loop_nor_other_models() -> None:
    async with house() as one:
        await one.use(one.b)
        one.engines.load.clear()
        asking = asyncio.create_task(one.hold(one.a))
        await eventually(lambda: one.a.starting is not None)
        await one.use(one.b)
        one.engines.load.set()
        await asking


async def test_a_load_goes_on_when_all_who_asked_have_left() -> None:
    async with house() as one:
        one.engines.load.clear()
        lease = one.keeper.lease(one.a)
        asking = asyncio.create_task(lease.model())
        await eventually(lambda: one.a.starting is not None)
        asking.cancel()
        lease.release()
        await peek()
        assert one.a.leases == 0
        one.engines.load.set()
        await one.settled()
        assert one.loaded == ["a"]
        await one.after(KEPT_S)
        assert one.loaded == []


async def test_an_idle_model_is_unloaded_after_its_time_and_not_before() -> None:
    async with house() as one:
        await one.use(one.a)
        await one.after(KEPT_S - 1)
        assert one.loaded == ["a"]
        await one.after(1)
        assert (one.loaded, one.engines.running) == ([], [])
        await one.use(one.a)
        assert one.engines.started == ["a", "a"]


async def test_use_puts_the_end_off() -> None:
    async with house() as one:
        await one.use(one.a)
        await one.after(KEPT_S - 1)
        await one.use(one.a)
        await one.after(KEPT_S - 1)
        assert one.loaded == ["a"]


async def test_a_model_in_use_is_not_unloaded_however_long_it_takes() -> None:
    async with house() as one:
        lease = await one.hold(one.a)
        await one.after(10 * KEPT_S)
        assert one.loaded == ["a"]
        lease.release()
        await one.after(KEPT_S)
        assert one.loaded == []


@pytest.mark.parametrize(
    ("keep_s", "after_s", "loaded"), [(0.0, 0.0, []), (10.0, 9.0, ["a"]), (10.0, 10.0, []), (FOREVER, 1e9, ["a"])]
)
async def test_a_request_says_how_long_the_model_stays(keep_s: float, after_s: float, loaded: list[str]) -> None:
    async with house() as one:
        await one.use(one.a, keep_s)
        await one.after(after_s)
        assert one.loaded == loaded


async def test_the_last_request_has_the_say() -> None:
    async with house() as one:
        await one.use(one.a, FOREVER)
        await one.use(one.a)
        await one.after(KEPT_S)
        assert one.loaded == []


async def test_kept_for_no_time_a_model_still_serves_all_who_wait() -> None:
    async with house() as one:
        one.engines.load.clear()
        asking = [asyncio.create_task(one.hold(one.a, 0.0)) for _ in range(3)]
        await peek()
        one.engines.load.set()
        for lease in await asyncio.gather(*asking):
            assert one.loaded == ["a"]
            lease.release()
        await one.settled()
        assert (one.loaded, one.engines.started) == ([], ["a"])


async def test_a_model_is_loaded_again_only_once_its_process_has_ended() -> None:
    async with house() as one:
        one.engines.end.clear()
        await one.use(one.a, 0.0)
        asking = asyncio.create_task(one.hold(one.a))
        await peek()
        assert one.engines.started == ["a"]
        one.engines.end.set()
        await asking
        assert one.engines.started == ["a", "a"]


async def test_models_stay_side_by_side_while_they_fit() -> None:
    async with house() as one:
        await one.use(one.a)
        await one.use(one.b)
        assert one.loaded == ["a", "b"]


async def test_the_one_used_least_recently_makes_room() -> None:
    async with house(limit_bytes=110) as one:
        await one.use(one.a)
        one.time_s = 1
        await one.use(one.b)
        one.time_s = 2
        await one.use(one.a)
        await one.use(one.large)
        assert one.loaded == ["a", "large"]
        assert one.b.tally == ModelCounters(loads=1, unloads=1, evictions=1)


async def test_as_many_make_room_as_have_to() -> None:
    async with house() as one:
        await one.use(one.a, FOREVER)
        await one.use(one.b, FOREVER)
        await one.use(one.large)
        assert one.loaded == ["large"]


async def test_what_is_in_use_stays_and_the_load_waits_for_it() -> None:
    async with house() as one:
        lease = await one.hold(one.a)
        await one.use(one.b)
        asking = asyncio.create_task(one.hold(one.large))
        await peek()
        assert one.loaded == ["a", "b"]  # that b goes would be of no use
        lease.release()
        await asking
        assert one.loaded == ["large"]


async def test_memory_counts_until_the_process_has_ended() -> None:
    async with house() as one:
        await one.use(one.a)
        await one.use(one.b)
        one.engines.end.clear()
        asking = asyncio.create_task(one.hold(one.large))
        await eventually(lambda: one.loaded == [])
        one.keeper.lease(one.large).release()  # after which all who wait look again
        await peek()
        assert one.engines.started == ["a", "b"]
        one.engines.end.set()
        await asking


async def test_a_request_that_finds_no_room_in_time_is_told_when_to_come_back() -> None:
    async with house(room_s=0.01) as one:
        lease = await one.hold(one.a)
        with pytest.raises(
            Unavailable, match="not enough memory for the model 'large' while others are in use"
        ) as caught:
            await one.hold(one.large)
        assert caught.value.retry_after_s == 10
        assert not one.large.reason
        lease.release()
        await one.use(one.large)


async def test_nobody_makes_room_for_those_who_have_left() -> None:
    async with house() as one:
        held = await one.hold(one.a)
        lease = one.keeper.lease(one.large)
        asking = asyncio.create_task(lease.model())
        await peek()
        asking.cancel()
        lease.release()
        await one.settled()
        held.release()
        await one.settled()
        assert one.loaded == ["a"]


async def test_two_that_wait_for_room_get_it_one_after_the_other() -> None:
    async with house(limit_bytes=70) as one:
        lease = await one.hold(one.large)
        asking = [asyncio.create_task(one.use(slot)) for slot in (one.a, one.b)]
        await peek()
        lease.release()
        await asyncio.gather(*asking)
        assert len(one.loaded) == 1
        assert sorted(one.engines.started[1:]) == ["a", "b"]


async def test_a_model_that_can_never_fit_is_refused_and_evicts_nobody() -> None:
    async with house(limit_bytes=60) as one:
        await one.use(one.a)
        with pytest.raises(ModelBroken, match="SOTTO_MEMORY_BUDGET_MB"):
            await one.hold(one.large)
        assert one.loaded == ["a"]


async def test_a_model_that_does_not_load_tells_all_who_wait_and_is_not_tried_again() -> None:
    async with house() as one:
        one.engines.fails = "its files are cut off"
        one.engines.load.clear()
        asking = [asyncio.create_task(one.hold(one.a)) for _ in range(3)]
        await peek()
        one.engines.load.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert {str(error) for error in errors} == {"The model 'a' can't be loaded: its files are cut off"}
        with pytest.raises(ModelBroken) as caught:
            await one.hold(one.a)
        assert (caught.value.status, caught.value.retry_after_s) == (503, None)
        assert one.engines.started == ["a"]
        assert one.a.tally == ModelCounters(failures=1)
        one.engines.fails = ""
        await one.use(one.b)


async def test_files_with_a_problem_start_no_process_and_evict_nobody() -> None:
    async with house() as one:
        await one.use(one.a)
        await one.use(one.b)
        one.engines.problem = "it lacks tokenizer.json"
        with pytest.raises(ModelBroken, match=r"'large' can't be loaded: it lacks tokenizer\.json"):
            await one.hold(one.large)
        assert one.loaded == one.engines.started == ["a", "b"]


async def test_a_broken_model_is_tried_again_when_its_files_have_changed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    async with house(folder=tmp_path) as one:
        one.engines.fails = "cut off"
        with pytest.raises(ModelBroken):
            await one.hold(one.a)
        one.engines.fails = ""
        with pytest.raises(ModelBroken):
            await one.hold(one.a)
        (tmp_path / "a" / "model.bin").write_text("whole")
        await one.use(one.a)
        assert (one.loaded, one.a.reason) == (["a"], "")


async def test_a_broken_model_is_tried_again_when_an_operator_loads_it() -> None:
    async with house() as one:
        one.engines.fails = "cut off"
        with pytest.raises(ModelBroken):
            await one.hold(one.a)
        with pytest.raises(ModelBroken):
            await one.keeper.load(one.a)
        one.engines.fails = ""
        await one.keeper.load(one.a)
        assert (one.loaded, one.a.leases, one.a.reason) == (["a"], 0, "")


async def test_an_engine_that_has_failed_for_good_is_replaced_when_an_operator_loads_it() -> None:
    async with house() as one:
        await one.use(one.a)
        await one.keeper.load(one.a)
        assert one.engines.started == ["a"]
        one.engines.running[0].state = "broken"
        await one.keeper.load(one.a)
        assert one.engines.started == ["a", "a"]


async def test_a_model_that_did_load_before_is_tried_again_after_a_while() -> None:
    async with house() as one:
        await one.use(one.a, 0.0)
        await one.settled()
        one.engines.fails = "no memory left on the GPU"
        with pytest.raises(ModelBroken):
            await one.hold(one.a)
        one.engines.fails = ""
        one.time_s += AGAIN_S - 1
        with pytest.raises(ModelBroken):
            await one.hold(one.a)
        one.time_s += 1
        await one.use(one.a)
        assert one.loaded == ["a"]


async def test_an_operator_unloads_what_is_idle_and_the_process_has_ended_then() -> None:
    async with house() as one:
        await one.use(one.a, FOREVER)
        await one.keeper.unload(one.a)
        assert (one.loaded, one.engines.running) == ([], [])
        await one.keeper.unload(one.a)
        assert one.a.tally == ModelCounters(loads=1, unloads=1)


async def test_a_model_in_use_or_being_loaded_is_not_unloaded() -> None:
    async with house() as one:
        lease = await one.hold(one.a)
        with pytest.raises(ModelBusy, match="'a' is in use"):
            await one.keeper.unload(one.a)
        lease.release()
        one.engines.load.clear()
        asking = asyncio.create_task(one.hold(one.b))
        await peek()
        with pytest.raises(ModelBusy):
            await one.keeper.unload(one.b)
        one.engines.load.set()
        (await asking).release()
        assert one.loaded == ["a", "b"]


async def test_an_unload_may_wait_for_those_who_use_the_model() -> None:
    async with house() as one:
        lease = await one.hold(one.a)
        unloading = asyncio.create_task(one.keeper.unload(one.a, wait_s=DEADLINE_S))
        await peek()
        assert one.loaded == ["a"]
        lease.release()
        await unloading
        assert (one.loaded, one.engines.running) == ([], [])


async def test_what_is_gone_from_the_disk_is_unloaded_when_idle_and_forgotten() -> None:
    async with house() as one:
        await one.use(one.a)
        lease = await one.hold(one.b)
        one.keeper.stock([one.large.known], KEPT_S)
        await one.after(0)
        assert [slot.name for slot in one.keeper.slots if not slot.gone] == ["large"]
        assert one.loaded == ["b"]
        lease.release()
        await one.after(0)
        await one.after(0)
        assert one.keeper.slots == [one.large]


async def test_what_is_gone_while_it_is_being_loaded_for_nobody_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with house() as one:
        let_go = threading.Event()
        monkeypatch.setattr(one.keeper, "_look", lambda known: known if let_go.wait(DEADLINE_S) else None)
        lease = one.keeper.lease(one.a)
        asking = asyncio.create_task(lease.model())
        await eventually(lambda: one.a.loading is not None)
        asking.cancel()
        lease.release()
        one.keeper.stock([], KEPT_S)
        one.keeper.sweep()
        let_go.set()
        await eventually(lambda: one.a.loading is None)
        await one.after(0)
        assert one.engines.started == ["a"]
        assert one.engines.running == []


async def test_closing_gives_up_what_is_loaded_and_what_is_being_loaded() -> None:
    async with house() as one:
        await one.use(one.a)
        one.engines.load.clear()
        asking = asyncio.create_task(one.hold(one.b))
        await eventually(lambda: one.b.starting is not None)
        await asyncio.to_thread(one.keeper.close)
        with pytest.raises(Unavailable, match="shutting down"):
            await asking
        assert one.engines.running == []
        with pytest.raises(Unavailable, match="shutting down"):
            await one.hold(one.large)


def test_a_model_is_preloaded_where_there_is_room_and_hinders_nobody() -> None:
    one = House()
    one.keeper.slots = []
    one.keeper.preload(one.a.known, FOREVER)
    one.keeper.preload(one.large.known, FOREVER)  # too large beside it
    one.engines.fails = "cut off"
    one.keeper.preload(one.b.known, FOREVER)
    assert [slot.name for slot in one.keeper.slots] == ["a", "large", "b"]
    assert one.loaded == ["a"]
    assert [slot.reason for slot in one.keeper.slots] == ["", "", "cut off"]
    one.keeper.close()
    assert one.engines.running == []
