import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from server.engine import Engine, EngineStats
from server.errors import QueueFull, Unavailable
from server.options import DecodingOptions
from server.transcript import Window, WindowResult
from tests.fakes import DEADLINE_S, FakeModel, Heard, hear, make_window, wait_until

Batch = Sequence[tuple[Window, DecodingOptions]]

GREEDY = DecodingOptions(language="en", beam_size=1)
BEAMS = DecodingOptions(language="en", beam_size=5)


@contextmanager
def running(model: FakeModel, *, max_batch: int = 4, max_queued: int = 100) -> Iterator[Engine]:
    engine = Engine(model, max_batch=max_batch, max_queued=max_queued)
    try:
        yield engine
    finally:
        model.release()
        engine.close()


@contextmanager
def busy(model: FakeModel, *, max_batch: int = 4, max_queued: int = 100) -> Iterator[Engine]:
    """An engine whose one worker is inside the model, with window 99, until `release`: what comes now queues up."""
    with running(model, max_batch=max_batch, max_queued=max_queued) as engine:
        model.hold()
        submit(engine, 99, request="other")
        wait_until(lambda: model.inside == 1)
        yield engine


def submit(
    engine: Engine, index: int, options: DecodingOptions = BEAMS, *, request: str = "mine"
) -> Future[WindowResult]:
    return engine.submit(make_window(index), options, request=request)


def text(future: Future[WindowResult]) -> str:
    return future.result(DEADLINE_S).segments[0].text


def failing(*bad: int) -> Callable[[Window, DecodingOptions], Heard]:
    return lambda window, options: ValueError("bad") if window.index in bad else hear(window, options)


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]


def test_each_window_gets_its_own_result() -> None:
    with running(FakeModel()) as engine:
        futures = [submit(engine, index) for index in range(10)]
        assert [text(future) for future in futures] == [f" w{index}" for index in range(10)]


def test_windows_run_in_order_of_arrival_and_in_batches_of_at_most_max_batch() -> None:
    model = FakeModel()
    with busy(model, max_batch=3) as engine:
        futures = [submit(engine, index) for index in range(7)]
        model.release()
        assert [text(future) for future in futures] == [f" w{index}" for index in range(7)]
        assert model.batches == [[99], [0, 1, 2], [3, 4, 5], [6]]


def test_a_batch_holds_equal_keys_only_and_nobody_is_overtaken() -> None:
    model = FakeModel()
    with busy(model) as engine:
        asked = [BEAMS, BEAMS, GREEDY, BEAMS, BEAMS]
        futures = [submit(engine, index, options) for index, options in enumerate(asked)]
        model.release()
        for future in futures:
            future.result(DEADLINE_S)
        assert model.batches == [[99], [0, 1], [2], [3, 4]]


def test_a_bad_window_fails_alone() -> None:
    model = FakeModel(failing(1))
    with busy(model) as engine:
        futures = [submit(engine, index) for index in range(3)]
        model.release()
        assert text(futures[0]) == " w0"
        assert text(futures[2]) == " w2"
        with pytest.raises(ValueError, match="bad"):
            futures[1].result(DEADLINE_S)


def test_the_engine_goes_on_after_a_failure() -> None:
    with running(FakeModel(failing(0))) as engine:
        assert isinstance(submit(engine, 0).exception(DEADLINE_S), ValueError)
        assert text(submit(engine, 1)) == " w1"


class Forgetful(FakeModel):
    """Gives one result less than it was asked for, unless asked for one."""

    def transcribe(self, batch: Batch) -> list[WindowResult]:
        results = super().transcribe(batch)
        return results[:-1] if len(results) > 1 else results


class Mute(FakeModel):
    def transcribe(self, batch: Batch) -> list[WindowResult]:
        return []


def test_results_of_a_batch_with_too_few_are_not_given_to_the_wrong_windows() -> None:
    model = Forgetful()
    with busy(model) as engine:
        futures = [submit(engine, index) for index in range(3)]
        model.release()
        assert [text(future) for future in futures] == [" w0", " w1", " w2"]


def test_a_window_without_a_result_fails() -> None:
    with running(Mute()) as engine, pytest.raises(RuntimeError, match="0 results for 1 windows"):
        submit(engine, 0).result(DEADLINE_S)


def test_options_that_have_no_key_fail_alone() -> None:
    def key(options: DecodingOptions) -> int:
        if options.prompt:
            raise ValueError("no such prompt")
        return options.beam_size

    def answer(window: Window, options: DecodingOptions) -> Heard:
        return ValueError("no such prompt") if options.prompt else hear(window, options)

    model = FakeModel(answer, key=key)
    bad = DecodingOptions(language="en", prompt="bad")
    with busy(model) as engine:
        futures = [submit(engine, index, bad if index in (1, 2) else BEAMS) for index in range(4)]
        model.release()
        assert [future.exception(DEADLINE_S) is None for future in futures] == [True, False, False, True]
        assert model.batches == [[99], [0], [1], [2], [3]]


def test_cancelled_windows_that_wait_are_never_run() -> None:
    model = FakeModel()
    with busy(model) as engine:
        mine = [submit(engine, index) for index in range(3)]
        other = submit(engine, 7, request="other")
        engine.cancel("mine")
        assert all(future.cancelled() for future in mine)
        assert engine.stats().queued == 1
        model.release()
        assert text(other) == " w7"
        assert model.batches == [[99], [7]]


def test_the_result_of_a_window_that_was_cancelled_while_it_ran_hurts_nobody() -> None:
    model = FakeModel()
    with busy(model) as engine:
        engine.cancel("other")
        model.release()
        assert text(submit(engine, 1)) == " w1"
        wait_until(lambda: engine.stats() == EngineStats(queued=0, running=0, done=2, failed=0, batches=2))


def test_a_window_whose_waiter_is_gone_is_skipped() -> None:
    model = FakeModel()
    with busy(model) as engine:
        futures = [submit(engine, index) for index in range(3)]
        assert futures[1].cancel()
        model.release()
        assert text(futures[0]) == " w0"
        assert text(futures[2]) == " w2"
        assert model.batches == [[99], [0, 2]]


def test_a_full_queue_refuses() -> None:
    model = FakeModel()
    with busy(model, max_queued=2) as engine:
        waiting = [submit(engine, index) for index in range(2)]
        with pytest.raises(QueueFull):
            submit(engine, 2)
        engine.cancel("mine")
        assert all(future.cancelled() for future in waiting)
        last = submit(engine, 3)
        model.release()
        assert text(last) == " w3"


def test_close_fails_what_waits_and_lets_end_what_runs() -> None:
    model = FakeModel()
    with busy(model) as engine:
        waiting = [submit(engine, index) for index in range(3)]
        closing = threading.Thread(target=engine.close)
        closing.start()
        for future in waiting:
            assert isinstance(future.exception(DEADLINE_S), Unavailable)
        assert closing.is_alive()
        model.release()
        closing.join(DEADLINE_S)
        assert model.closed
        assert model.batches == [[99]]


def test_after_close_nothing_is_taken_and_no_thread_is_left() -> None:
    model = FakeModel(workers=3)
    with running(model) as engine:
        assert len(engine_threads()) == 3
        engine.close()
        assert engine_threads() == []
        assert model.closed
        with pytest.raises(Unavailable, match="shutting down"):
            submit(engine, 0)


def test_closing_gets_over_a_window_whose_waiter_is_gone() -> None:
    model = FakeModel()
    with busy(model) as engine:
        gone, waiting = submit(engine, 0), submit(engine, 1)
        assert gone.cancel()
        threading.Thread(target=engine.close).start()
        assert isinstance(waiting.exception(DEADLINE_S), Unavailable)
        model.release()
        wait_until(lambda: model.closed)


def test_two_workers_run_at_the_same_time() -> None:
    model = FakeModel(workers=2)
    with running(model, max_batch=1) as engine:
        model.hold()
        futures = [submit(engine, index) for index in range(2)]
        wait_until(lambda: model.inside == 2)
        assert engine.stats().running == 2
        model.release()
        assert [text(future) for future in futures] == [" w0", " w1"]


def test_one_worker_runs_one_batch_at_a_time() -> None:
    model = FakeModel()
    with running(model, max_batch=1) as engine:
        for future in [submit(engine, index) for index in range(20)]:
            future.result(DEADLINE_S)
        assert model.most_inside == 1


def test_stats_count_what_waits_runs_is_done_and_failed() -> None:
    model = FakeModel(failing(1))
    with busy(model) as engine:
        futures = [submit(engine, index) for index in range(3)]
        assert engine.stats() == EngineStats(queued=3, running=1, done=0, failed=0, batches=0)
        model.release()
        for future in futures:
            future.exception(DEADLINE_S)
        # A worker counts after it has answered.
        wait_until(lambda: engine.stats() == EngineStats(queued=0, running=0, done=3, failed=1, batches=2))


def test_a_failed_window_is_logged_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    with running(FakeModel(failing(4))) as engine:
        submit(engine, 4, request="abc").exception(DEADLINE_S)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "window 4 of request abc failed"
    assert record.exc_info
