import logging
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from server.engine import engine as engine_module
from server.engine.engine import Engine
from server.engine.job import Job
from server.engine.limits import BatchLimits
from server.errors import Cancelled, QueueFull, Unavailable
from server.options import DecodingOptions, ModelOptions, Priority
from server.transcript import Window, WindowResult
from server.whisper.decoding import DecodingResult, WindowState
from tests.support.fakes import DEADLINE_S, FakeModel, Outcome, default_answer, make_window, wait_until

GREEDY = DecodingOptions(language="en", beam_size=1)
BEAMS = DecodingOptions(language="en", beam_size=5)


@contextmanager
def running(model: FakeModel, *, max_batch: int = 4, max_queued: int = 100) -> Iterator[Engine]:
    engine = Engine(model, BatchLimits(max_batch, max_batch, max_queued=max_queued))
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


def counts(engine: Engine) -> dict[str, int]:
    stats = engine.stats()
    return {name: getattr(stats, name) for name in ("queued", "running", "done", "failed", "batches")}


def text(future: Future[WindowResult]) -> str:
    return future.result(DEADLINE_S).segments[0].text


def failing(*bad: int) -> Callable[[Window, DecodingOptions], Outcome]:
    return lambda window, options: ValueError("bad") if window.index in bad else default_answer(window, options)


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if re.fullmatch(r"engine-\d+", thread.name)]


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


def test_a_batch_has_one_key_and_keeps_the_order_of_arrival() -> None:
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


class Halfway(FakeModel):
    """Breaks off behind the first window of a batch, which has its result by then."""

    def generate(self, batch: Sequence[WindowState]) -> None:
        super().generate(batch[:1])
        if len(batch) > 1:
            raise RuntimeError("no more")


def test_the_windows_of_a_failed_batch_are_retried_one_by_one() -> None:
    model = Halfway()
    with busy(model) as engine:
        futures = [submit(engine, index) for index in range(3)]
        model.release()
        assert [text(future) for future in futures] == [" w0", " w1", " w2"]
        assert model.batches == [[99], [0], [1], [2]]  # nothing twice


def test_options_that_have_no_key_fail_alone() -> None:
    def key(options: DecodingOptions) -> int:
        if options.prompt:
            raise ValueError("no such prompt")
        return options.beam_size

    def answer(window: Window, options: DecodingOptions) -> Outcome:
        return ValueError("no such prompt") if options.prompt else default_answer(window, options)

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


def test_the_result_of_a_window_cancelled_while_it_ran_is_dropped() -> None:
    model = FakeModel()
    with busy(model) as engine:
        engine.cancel("other")
        model.release()
        assert text(submit(engine, 1)) == " w1"
        wait_until(lambda: counts(engine) == {"queued": 0, "running": 0, "done": 1, "failed": 0, "batches": 2})


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
        assert counts(engine) == {"queued": 3, "running": 1, "done": 0, "failed": 0, "batches": 0}
        model.release()
        for future in futures:
            future.exception(DEADLINE_S)
        # A worker counts after it has answered.
        wait_until(lambda: counts(engine) == {"queued": 0, "running": 0, "done": 3, "failed": 1, "batches": 2})


def test_the_position_counts_earlier_requests_and_is_zero_while_running() -> None:
    with busy(FakeModel()) as engine:
        for request in ("first", "second", "first"):
            submit(engine, 1, request=request)
        assert [engine.position(request) for request in ("other", "first", "second", "coming")] == [0, 0, 1, 2]
        submit(engine, 2, request="other")
        assert engine.position("other") == 0


def test_a_failed_window_is_logged_with_its_request(caplog: pytest.LogCaptureFixture) -> None:
    with running(FakeModel(failing(4))) as engine:
        submit(engine, 4, request="abc").exception(DEADLINE_S)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "window 4 of request abc failed"
    assert record.exc_info


# Steps


GOOD, BAD = -0.1, -9.0


class Stepping(FakeModel):
    """Fails at temperature 0 where the prompt says so, and places words where they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, list[int]]] = []
        self.detected: list[int] = []

    def decode_key(self, state: WindowState) -> Hashable:
        return state.temperature

    def encode(self, batch: Sequence[WindowState]) -> None:
        super().encode(batch)
        self._note("encode", batch)

    def detect(self, batch: Sequence[WindowState]) -> None:
        for one in batch:
            one.detect([("de", 0.9), ("en", 0.1)])
            self.detected.append(one.window.index)

    def generate(self, batch: Sequence[WindowState]) -> None:
        self._note(f"generate {batch[0].temperature}", batch)
        with self._lock:
            self.inside += 1
        assert self._go.wait(DEADLINE_S)
        with self._lock:
            self.inside -= 1
        for one in batch:
            assert one.encoded is not None
            bad = one.options.prompt == "bad" and one.temperature == 0
            one.add_attempt(DecodingResult((), "", BAD if bad else GOOD, 1.0, 0.0, one.temperature))
            if one.decoded and one.options.word_timestamps:
                one.align_tokens = (1,)

    def align(self, batch: Sequence[WindowState]) -> None:
        assert all(one.encoded is not None for one in batch)
        self._note("align", batch)
        for one in batch:
            one.alignment = "placed"

    def result(self, state: WindowState) -> WindowResult:
        return default_answer(state.window, state.options)

    def _note(self, step: str, batch: Sequence[WindowState]) -> None:
        with self._lock:
            self.steps.append((step, [one.window.index for one in batch]))


def stepped(
    model: Stepping, *asked: DecodingOptions, limits: BatchLimits | None = None
) -> list[tuple[str, list[int]]]:
    """Steps for windows 0, 1 ... of one request each that are all there when the worker comes."""
    engine = Engine(model, limits or BatchLimits(8, 8))
    try:
        model.hold()
        first = engine.submit(make_window(99), GREEDY, request="other")
        wait_until(lambda: model.inside == 1)
        futures = [engine.submit(make_window(n), one, request=f"r{n}") for n, one in enumerate(asked)]
        model.release()
        for future in [first, *futures]:
            future.result(DEADLINE_S)
    finally:
        engine.close()
    return [step for step in model.steps if step[1] != [99]]


FAILS = replace(GREEDY, prompt="bad")
WORDS = replace(GREEDY, word_timestamps=True)


def test_failed_windows_are_retried_in_one_batch_across_requests() -> None:
    assert stepped(Stepping(), GREEDY, FAILS, GREEDY, FAILS) == [
        *(("encode", [n]) for n in range(4)),  # once each, whatever comes after
        ("generate 0.0", [0, 1, 2, 3]),
        ("generate 0.2", [1]),  # a sampled window counts best_of times: 8 // 5
        ("generate 0.2", [3]),
    ]


def test_the_example_in_the_docstring_is_true() -> None:
    model = Stepping()
    numbers = {"a1": 1, "a2": 2, "a3": 3, "b1": 4, "b2": 5, "c1": 6}
    engine = Engine(model, BatchLimits(4, 4))
    with closing(engine):
        model.hold()
        futures = [engine.submit(make_window(99), GREEDY, request="other")]
        wait_until(lambda: model.inside == 1)
        for name, number in numbers.items():
            options = FAILS if name == "a2" else WORDS if name[0] == "b" else GREEDY
            priority: Priority = "interactive" if name[0] == "c" else "bulk"
            futures.append(engine.submit(make_window(number), options, request=name[0], priority=priority))
        model.release()
        for future in futures:
            future.result(DEADLINE_S)
    batches = [windows for step, windows in model.steps if step != "encode" and windows != [99]]
    example = re.findall(r"^ +\[(.*)\] ", str(engine_module.__doc__), re.MULTILINE)
    assert batches == [[numbers[name] for name in names.split()] for names in example]
    assert len(example) == 5


def test_sampled_windows_share_a_batch_as_far_as_best_of_allows() -> None:
    fails = replace(FAILS, best_of=2)
    assert ("generate 0.2", [0, 1, 2]) in stepped(Stepping(), fails, fails, fails)


def test_words_are_placed_together_with_those_of_other_requests() -> None:
    assert stepped(Stepping(), WORDS, GREEDY, WORDS)[-2:] == [("generate 0.0", [0, 1, 2]), ("align", [0, 2])]


def test_words_of_different_languages_are_placed_apart() -> None:
    steps = stepped(Stepping(), WORDS, replace(WORDS, language="de"), replace(WORDS, language=None))
    assert steps[-2:] == [("align", [0]), ("align", [1, 2])]  # window 2 turned out to be German


def test_only_windows_without_a_language_are_detected_and_only_once() -> None:
    model = Stepping()
    stepped(model, GREEDY, replace(FAILS, language=None), replace(WORDS, language=None))
    assert model.detected == [1, 2]


def test_beyond_the_cache_windows_are_encoded_again() -> None:
    steps = stepped(Stepping(), FAILS, FAILS, limits=BatchLimits(8, 8, cache_bytes=8))  # room for one float64
    assert [step for step in steps if step[0] == "encode"] == [("encode", [n]) for n in (0, 1, 1)]


def test_on_a_gpu_windows_are_encoded_together() -> None:
    steps = stepped(Stepping(), GREEDY, GREEDY, limits=BatchLimits(8, 8, encode_together=True))
    assert steps[0] == ("encode", [0, 1])


@pytest.mark.parametrize("at", [1, 3])
def test_a_bulk_batch_steps_back_until_it_is_decoded_when_interactive_work_comes(at: int) -> None:
    class Interrupting(Stepping):
        """While it encodes one of its windows, a short request comes."""

        def encode(self, batch: Sequence[WindowState]) -> None:
            super().encode(batch)
            if batch[0].window.index == at:
                quick.append(engine.submit(make_window(50), GREEDY, request="quick", priority="interactive"))

    quick: list[Future[WindowResult]] = []
    model = Interrupting()
    engine = Engine(model, BatchLimits(4, 4))
    try:
        with engine._queue._changed:  # the worker sees all of them at once
            futures = [engine.submit(make_window(n), GREEDY, request="long") for n in range(4)]
        for future in futures:
            future.result(DEADLINE_S)
        quick[0].result(DEADLINE_S)
    finally:
        engine.close()
    bulk = [("encode", [n]) for n in range(4)]
    quickly = [("encode", [50]), ("generate 0.0", [50])]
    # Nothing is redone.
    assert model.steps == [*bulk[: at + 1], *quickly, *bulk[at + 1 :], ("generate 0.0", [0, 1, 2, 3])]


def test_bulk_batches_are_short_while_interactive_requests_arrive() -> None:
    engine = Engine(FakeModel(), BatchLimits(interactive=4, bulk=8))
    try:
        submit(engine, 0).result(DEADLINE_S)
        assert engine._limit_of(engine_job(engine, "bulk")) == 8
        engine.submit(make_window(1), BEAMS, request="quick", priority="interactive").result(DEADLINE_S)
        assert engine._limit_of(engine_job(engine, "bulk")) == 4
    finally:
        engine.close()


@pytest.mark.parametrize(("beam_size", "limit"), [(1, 8), (5, 8), (10, 4), (20, 2)])
def test_more_beams_than_usual_make_smaller_batches(beam_size: int, limit: int) -> None:
    model, options = FakeModel(), replace(BEAMS, beam_size=beam_size)
    with busy(model, max_batch=8) as engine:
        futures = [submit(engine, number, options) for number in range(16)]
        model.release()
        for future in futures:
            future.result(DEADLINE_S)
    assert [len(batch) for batch in model.batches] == [1, *[limit] * (16 // limit)]


def engine_job(engine: Engine, priority: Priority, options: DecodingOptions = BEAMS) -> Job:
    return Job(WindowState(make_window(), options), "r", priority, engine._model)


def test_a_request_cancelled_between_its_steps_takes_no_further_one() -> None:
    class Cancelling(Stepping):
        def generate(self, batch: Sequence[WindowState]) -> None:
            super().generate(batch)
            engine.cancel("gone")

    model = Cancelling()
    engine = Engine(model, BatchLimits(8, 8))
    try:
        future = engine.submit(make_window(0), FAILS, request="gone")
        assert isinstance(future.exception(DEADLINE_S), Cancelled)
    finally:
        engine.close()
    assert model.steps == [("encode", [0]), ("generate 0.0", [0])]


def test_a_lost_device_fails_everything_and_takes_nothing_more() -> None:
    class Lost(Stepping):
        def generate(self, batch: Sequence[WindowState]) -> None:
            super().generate(batch)
            raise RuntimeError("CUDA failed with error an illegal memory access was encountered")

    model = Lost()
    model.device = "cuda"
    engine = Engine(model, BatchLimits(1, 1))
    try:
        model.hold()
        futures = [engine.submit(make_window(n), GREEDY, request="r") for n in range(3)]
        model.release()
        for future in futures:
            assert isinstance(future.exception(DEADLINE_S), Unavailable)
        with pytest.raises(Unavailable, match="illegal memory access"):
            engine.submit(make_window(), GREEDY, request="r")
        assert engine.stats().state == "broken"
    finally:
        engine.close()


def test_close_can_drain_first() -> None:
    model = FakeModel()
    engine = Engine(model, BatchLimits(1, 1))
    futures = [submit(engine, index) for index in range(5)]
    engine.close(drain_s=DEADLINE_S)
    assert [text(future) for future in futures] == [f" w{index}" for index in range(5)]


def test_statistics_count_classes_batches_and_fallbacks() -> None:
    model = Stepping()
    engine = Engine(model, BatchLimits(8, 8))
    try:
        engine.submit(make_window(0), FAILS, request="r").result(DEADLINE_S)
        model.hold()
        engine.submit(make_window(1), GREEDY, request="r")
        wait_until(lambda: model.inside == 1)
        engine.submit(make_window(2, length_s=3.0), GREEDY, request="a", priority="interactive")
        engine.submit(make_window(3), GREEDY, request="b")
        stats = engine.stats()
        model.release()
    finally:
        engine.close(drain_s=DEADLINE_S)
    assert stats.queued_by_class == {"interactive": 1, "bulk": 1}
    assert stats.queued_audio_s == {"interactive": 3.0, "bulk": 1.0}
    assert stats.fallbacks == 1
    assert stats.batch_sizes == {1: 2}
    assert (stats.device, stats.compute_type) == ("cpu", "int8")
    assert sum(stats.runs.counts) == sum(stats.waits.counts) == stats.done == 1
    assert stats.runs.sum_s > 0


@pytest.mark.parametrize(
    ("device", "beam_size", "limits"),
    [
        ("cpu", 5, BatchLimits(4, 8)),
        ("cuda", 5, BatchLimits(8, 8, mix_classes=True, encode_together=True, spread=False)),
        ("cuda", 1, BatchLimits(16, 16, mix_classes=True, encode_together=True, spread=False)),
    ],
)
def test_limits_suit_the_device(device: str, beam_size: int, limits: BatchLimits) -> None:
    assert BatchLimits.on(device, ModelOptions(beam_size=beam_size)) == limits


def test_set_limits_override_the_devices() -> None:
    assert BatchLimits.on("cpu", ModelOptions(batch=2)) == BatchLimits(2, 2)
    assert BatchLimits.on("cpu", ModelOptions(batch=2, bulk_batch=6)) == BatchLimits(2, 6)
