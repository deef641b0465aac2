import os
import threading
from pathlib import Path

import numpy as np
import pytest

from server.audio.spool import Spool, SpoolBudget, SpoolFile
from server.errors import Unavailable
from server.system.scratch import ScratchFolder
from server.transcript import CONTEXT_SAMPLES, SAMPLE_BYTES, Span, Window
from tests.support.fakes import Samples, tone

AUDIO = tone(2.0)
LENGTH = len(AUDIO)
SCRATCH = ScratchFolder()


@pytest.fixture
def budget() -> SpoolBudget:
    return SpoolBudget(1 << 20)


def filled(budget: SpoolBudget, *blocks: Samples) -> Spool:
    spool = Spool(budget, SCRATCH)
    for block in blocks or (AUDIO,):
        add(spool, block)
    return spool


def add(spool: Spool, block: Samples) -> None:
    spool.append(block)
    spool.reach(spool.samples)


def samples_of(window: Window) -> Samples:
    return np.frombuffer(window.samples, np.int16)


@pytest.mark.parametrize(
    ("spans", "lead", "tail"),
    [
        ([(0, LENGTH)], 0, 0),
        ([(0, 5_000)], 0, CONTEXT_SAMPLES),
        ([(5_000, 9_000)], CONTEXT_SAMPLES, CONTEXT_SAMPLES),
        ([(5_000, LENGTH)], CONTEXT_SAMPLES, 0),
        ([(50, LENGTH - 70)], 50, 70),
        ([(5_000, 6_000), (9_000, 9_500), (20_000, 30_000)], CONTEXT_SAMPLES, CONTEXT_SAMPLES),
        ([(0, 1_000), (LENGTH - 1, LENGTH)], 0, 0),
    ],
)
def test_a_window_is_read_back_with_what_is_around_it(
    budget: SpoolBudget, spans: list[tuple[int, int]], lead: int, tail: int
) -> None:
    spool = filled(budget)
    window = Window(3, tuple(Span(*span) for span in spans))
    loaded = spool.load(window)
    inside = np.concatenate([AUDIO[start:end] for start, end in spans])
    before = AUDIO[spans[0][0] - lead : spans[0][0]]
    after = AUDIO[spans[-1][1] : spans[-1][1] + tail]
    assert (loaded.lead, loaded.tail) == (lead, tail)
    assert (loaded.index, loaded.spans) == (window.index, window.spans)
    assert np.array_equal(samples_of(loaded), np.concatenate([before, inside, after]))
    spool.close()


def test_a_file_s_first_window_has_nothing_before_it(budget: SpoolBudget) -> None:
    """Its rest has, where the model stops inside it."""
    spool = filled(budget)
    first = spool.load(Window(0, (Span(5_000, 9_000),)))
    assert (first.lead, first.tail) == (0, CONTEXT_SAMPLES)
    assert np.array_equal(samples_of(first), AUDIO[5_000 : 9_000 + CONTEXT_SAMPLES])
    assert spool.load(first.after(1_000)).lead == CONTEXT_SAMPLES
    spool.close()


def test_blocks_follow_each_other(budget: SpoolBudget) -> None:
    spool = filled(budget, AUDIO[:7], AUDIO[7:20_000], AUDIO[20_000:])
    assert spool.samples == LENGTH
    assert np.array_equal(samples_of(spool.load(Window(0, (Span(0, LENGTH),)))), AUDIO)
    spool.close()


def test_nothing_is_read_beyond_what_is_written(budget: SpoolBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows are loaded while the decoder goes on writing."""
    spool = filled(budget)
    loaded: list[Window] = []
    write = os.pwrite

    def slow_write(fd: int, data: memoryview, offset: int) -> int:
        loaded.append(spool.load(Window(0, (Span(0, LENGTH),))))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", slow_write)
    spool.append(AUDIO)
    assert [window.tail for window in loaded] == [0]
    assert np.array_equal(samples_of(loaded[0]), AUDIO)
    spool.close()


def test_a_write_that_stops_halfway_is_continued(budget: SpoolBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:1_001], offset))
    spool = filled(budget)
    assert np.array_equal(samples_of(spool.load(Window(0, (Span(0, LENGTH),)))), AUDIO)
    spool.close()


def test_several_threads_read_the_same_spool(budget: SpoolBudget) -> None:
    spool = filled(budget)
    wrong: list[int] = []

    def read(start: int) -> None:
        for _ in range(100):
            loaded = samples_of(spool.load(Window(1, (Span(start, start + 1_000),))))
            if not np.array_equal(loaded, AUDIO[start - CONTEXT_SAMPLES : start + 1_000 + CONTEXT_SAMPLES]):
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(start,)) for start in (1_000, 9_000, 17_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    spool.close()


def test_the_budget_is_shared_and_given_back(budget: SpoolBudget) -> None:
    first, second = filled(budget), filled(budget)
    assert budget.used == 2 * LENGTH * SAMPLE_BYTES
    first.close()
    assert budget.used == LENGTH * SAMPLE_BYTES
    second.close()
    assert budget.used == 0


def test_samples_of_another_process_are_read_once_announced(budget: SpoolBudget) -> None:
    spool = Spool(budget, SCRATCH)
    other = SpoolFile(spool.fileno())
    other.append(AUDIO)
    assert (spool.samples, budget.used) == (0, 0)
    assert spool.written == LENGTH
    spool.reach(5_000)
    assert (spool.samples, budget.used) == (5_000, LENGTH * SAMPLE_BYTES)  # all that is on disk counts
    spool.reach(LENGTH)
    assert np.array_equal(samples_of(spool.load(Window(0, (Span(0, LENGTH),)))), AUDIO)
    assert budget.used == LENGTH * SAMPLE_BYTES
    spool.close()
    assert budget.used == 0


def test_a_second_pass_over_the_same_file_takes_nothing_back(budget: SpoolBudget) -> None:
    spool = filled(budget)
    again = SpoolFile(spool.fileno())
    again.append(AUDIO[:7])
    spool.reach(7)
    assert (spool.samples, budget.used) == (LENGTH, LENGTH * SAMPLE_BYTES)
    spool.close()


def test_no_folder_to_store_in_is_an_error(
    budget: SpoolBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file" / "gone"))
    with pytest.raises(Unavailable, match="can't be stored: Not a directory"):
        Spool(budget, ScratchFolder())


def test_closing_twice_gives_back_once(budget: SpoolBudget) -> None:
    other, spool = filled(budget), filled(budget)
    spool.close()
    spool.close()
    assert budget.used == LENGTH * SAMPLE_BYTES
    other.close()


def test_a_block_that_does_not_fit_is_refused_and_the_rest_stays() -> None:
    budget = SpoolBudget(LENGTH * SAMPLE_BYTES)
    spool = filled(budget)
    with pytest.raises(Unavailable, match="no space left"):
        add(spool, AUDIO[:1])
    assert budget.used == LENGTH * SAMPLE_BYTES
    assert np.array_equal(samples_of(spool.load(Window(0, (Span(0, LENGTH),))))[:LENGTH], AUDIO)
    spool.close()
    assert budget.used == 0


def test_a_full_disk_is_an_error_and_the_budget_comes_back(budget: SpoolBudget) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    spool = filled(budget)
    with full.open("wb", buffering=0) as device:
        os.dup2(device.fileno(), spool.fileno())
    with pytest.raises(Unavailable, match=r"can't be stored: No space left on device\."):
        spool.append(AUDIO)
    spool.close()
    assert budget.used == 0


def test_a_file_that_is_shorter_than_it_should_be_is_an_error(budget: SpoolBudget) -> None:
    spool = filled(budget)
    os.truncate(spool.fileno(), LENGTH)
    with pytest.raises(Unavailable, match="incomplete"):
        spool.load(Window(0, (Span(0, LENGTH),)))
    spool.close()


def test_no_path_leads_to_the_file(budget: SpoolBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = filled(budget)
    status = os.fstat(spool.fileno())
    assert status.st_dev == tmp_path.stat().st_dev
    assert status.st_nlink == 0
    assert list(tmp_path.iterdir()) == []
    spool.close()
