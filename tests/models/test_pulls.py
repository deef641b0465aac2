"""Pulls that several wait for: one begins it, the last who leaves ends it."""

import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from server.errors import Cancelled, ModelNotFound, PermissionDenied, PullFailed
from server.models import pulls
from server.models.catalog import ModelReference, load
from server.models.progress import Progress, Report
from server.models.pulls import Pulls, PullSubscription
from server.settings import Settings
from tests.support.fakes import DEADLINE_S, eventually
from tests.support.model_folders import WHOLE, filled

KNOWN = load()
NAME = "Systran/faster-whisper-tiny"
pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulls, "TICK_S", 0.001)


class Work:
    """Fetches a hundred bytes; each of `steps` waits until the test goes on. `error` ends it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.found: list[ModelReference] = []
        self.ended: list[BaseException | None] = []
        self.go = threading.Semaphore(0)
        self.error = error

    def __call__(self, found: ModelReference, report: Report) -> None:
        self.found.append(found)
        try:
            for done in (0, 50, 100):
                report(Progress(found.name, done, 100))
                assert self.go.acquire(timeout=DEADLINE_S)
            if self.error:
                raise self.error
        except BaseException as error:
            self.ended.append(error)
            raise
        self.ended.append(None)

    def finish(self) -> None:
        self.go.release(10)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Pulls]:
    return lambda fetch, **settings: Pulls(Settings(models_dir=tmp_path, **settings), KNOWN, fetch)


async def outcome(waiting: PullSubscription) -> Progress | None:
    async for _ in waiting.steps():
        pass
    return waiting.latest


async def test_a_later_subscriber_shares_the_pull_under_way(make: Callable[..., Pulls], work: Work) -> None:
    shared = make(work)
    first, second = await shared.subscribe("tiny"), await shared.subscribe(NAME)
    assert first.name == second.name == "tiny"
    work.finish()
    assert await outcome(first) == await outcome(second) == Progress("tiny", 100, 100)
    assert len(work.found) == 1


async def test_steps_report_progress(make: Callable[..., Pulls], work: Work) -> None:
    waiting = await make(work).subscribe("tiny")
    steps = waiting.steps()
    while (latest := await anext(steps)) is None:
        pass
    assert latest.done == 0
    work.go.release()
    while (latest := await anext(steps)) and latest.done == 0:
        pass
    assert latest == Progress("tiny", 50, 100)
    work.finish()
    async for _ in steps:
        pass


async def test_a_pull_continues_until_its_last_client_disconnects(make: Callable[..., Pulls], work: Work) -> None:
    shared = make(work)
    first, second = await shared.subscribe("tiny"), await shared.subscribe("tiny")
    first.close()
    first.close()  # once is enough
    with pytest.raises(Cancelled):
        await outcome(first)
    work.go.release()
    await eventually(lambda: second.latest == Progress("tiny", 50, 100))
    second.close()
    work.finish()
    await eventually(lambda: len(work.ended) == 1)
    assert isinstance(work.ended[0], Cancelled)


async def test_next_one_begins_anew_when_all_have_left(make: Callable[..., Pulls], work: Work) -> None:
    shared = make(work)
    (await shared.subscribe("tiny")).close()
    again = await shared.subscribe("tiny")
    work.finish()
    work.finish()
    await outcome(again)
    assert len(work.found) == 2


async def test_a_failure_reaches_every_subscriber_and_is_then_forgotten(make: Callable[..., Pulls]) -> None:
    work = Work(PullFailed("broke off"))
    work.finish()
    shared = make(work)
    waiting = [await shared.subscribe("tiny"), await shared.subscribe("tiny")]
    for each in waiting:
        with pytest.raises(PullFailed, match="broke off"):
            await outcome(each)
    work.error = None
    work.finish()
    await outcome(await shared.subscribe("tiny"))


async def test_a_closed_subscription_gets_no_failure(
    make: Callable[..., Pulls], caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(PullFailed("broke off"))
    shared = make(work)
    first, second = await shared.subscribe("tiny"), await shared.subscribe("tiny")
    steps = first.steps()
    await anext(steps)
    first.close()
    with pytest.raises(Cancelled):
        await anext(steps)
    work.finish()
    with pytest.raises(PullFailed):
        await outcome(second)
    del steps, first, second, shared, work
    gc.collect()
    assert not caplog.records  # asyncio would complain of an exception that nobody has taken


async def test_different_models_are_pulled_side_by_side(make: Callable[..., Pulls], work: Work) -> None:
    shared = make(work)
    waiting = [await shared.subscribe("tiny"), await shared.subscribe("me/other")]
    await eventually(lambda: all(each.latest for each in waiting))
    work.finish()
    for each in waiting:
        await outcome(each)
    assert {found.target.name for found in work.found} == {"Systran--faster-whisper-tiny", "me--other"}


async def test_offline_nothing_is_begun(make: Callable[..., Pulls], work: Work) -> None:
    with pytest.raises(PermissionDenied, match="'tiny' is not on this machine, and SOTTO_OFFLINE forbids"):
        await make(work, offline=True).subscribe("tiny")
    assert work.found == []


async def test_offline_a_folder_may_still_have_the_model(make: Callable[..., Pulls], work: Work) -> None:
    waiting = await make(work, offline=True, model_sources=("/mnt/models",)).subscribe("tiny")
    waiting.close()
    assert waiting.name == "tiny"


async def test_a_pull_of_an_installed_model_is_done_at_once_even_offline(tmp_path: Path) -> None:
    waiting = await Pulls(Settings(models_dir=tmp_path, offline=True), KNOWN).subscribe("demo")
    assert (waiting.name, await outcome(waiting)) == ("demo", None)


async def test_a_model_at_a_path_is_never_pulled(tmp_path: Path) -> None:
    filled(tmp_path / "ward", *WHOLE)
    entry = (
        '[models.ward]\npath = "ward"\nfiles = ["config.json", "model.bin", "tokenizer.json", "vocabulary.*", "x"]'
    )
    (tmp_path / "own.toml").write_text(entry)
    waiting = await Pulls(Settings(models_dir=tmp_path), load(tmp_path / "own.toml")).subscribe("ward")
    assert await outcome(waiting) is None


async def test_a_path_is_not_a_model_name(make: Callable[..., Pulls], work: Work, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in (str(tmp_path), "mine", "../mine", "./mine", "~/mine"):
        with pytest.raises(ModelNotFound):
            await make(work).subscribe(name)
    assert work.found == []
