import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from server.engine.messages import Heartbeat, Ready, Start
from server.engine.process import EngineProcess, environment
from server.engine.supervisor import SupervisedEngine, SupervisorTimeouts
from server.errors import ModelUnavailable, QueueFull, Unavailable
from server.options import DecodingOptions, Priority
from server.stats import Durations, EngineStats
from server.system.child_process import ChildProcess
from server.system.machine import children_of
from server.transcript import WindowResult
from tests.support.fakes import DEADLINE_S, make_window, wait_until
from tests.support.hosted import LIMITS, QUICK, FakeLoader, kill, pid, supervised

BEAMS = DecodingOptions(language="en")


@pytest.fixture
def loader(tmp_path: Path) -> FakeLoader:
    return FakeLoader(tmp_path)


def submit(
    engine: SupervisedEngine, index: int, prompt: str = "", *, request: str = "mine", priority: Priority = "bulk"
) -> Future[WindowResult]:
    options = replace(BEAMS, prompt=prompt)
    return engine.submit(make_window(index), options, request=request, priority=priority)


def text(future: Future[WindowResult]) -> str:
    return future.result(DEADLINE_S).segments[0].text


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def held(loader: FakeLoader, engine: SupervisedEngine) -> Iterator[Future[WindowResult]]:
    """Window 99 is inside the model; what comes now waits behind it."""
    loader.hold()
    first = submit(engine, 99, request="other")
    wait_until(lambda: engine.stats().running == 1)
    yield first
    loader.release()


# As the engine itself.


def test_each_window_gets_its_own_result(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        futures = [submit(engine, index) for index in range(20)]
        assert [text(future) for future in futures] == [f" w{index}" for index in range(20)]
        assert engine.max_batch == LIMITS.bulk
        assert engine.facts().languages == ("en",)


def test_an_error_of_one_window_fails_only_that_window(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        futures = [submit(engine, index, "fail" if index == 2 else "") for index in range(5)]
        with pytest.raises(RuntimeError, match="ValueError: bad window"):
            futures.pop(2).result(DEADLINE_S)
        assert [text(future) for future in futures] == [" w0", " w1", " w3", " w4"]
        assert loader.starts == 1


def test_a_full_queue_refuses(loader: FakeLoader) -> None:
    with supervised(loader) as engine, held(loader, engine):
        for index in range(LIMITS.max_queued - 1):
            submit(engine, index)
        with pytest.raises(QueueFull):
            submit(engine, 100)
        engine.cancel("mine")
        submit(engine, 101)


def test_cancelled_windows_end_at_once_without_delaying_others(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine) as first:
            mine = [submit(engine, index) for index in range(3)]
            other = submit(engine, 7, request="other")
            engine.cancel("mine")
            assert all(future.cancelled() for future in mine)
            assert engine.stats().queued == 1
        assert [text(first), text(other)] == [" w99", " w7"]


def test_queued_and_running_windows_are_counted(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine):
            futures = [submit(engine, index) for index in range(2)]
            futures.append(submit(engine, 2, request="quick", priority="interactive"))
            stats = engine.stats()
            assert (stats.queued, stats.running) == (3, 1)
            assert stats.queued_by_class == {"interactive": 1, "bulk": 2}
            assert stats.queued_audio_s == {"interactive": 1.0, "bulk": 2.0}
            wait_until(lambda: engine.position("mine") == 1)
            assert [engine.position(name) for name in ("other", "quick", "new")] == [0, 0, 2]
        for future in futures:
            future.result(DEADLINE_S)
        wait_until(lambda: engine.stats().done == 4)
        stats = engine.stats()
        assert (stats.state, stats.restarts, stats.device, stats.compute_type) == ("ready", 0, "cpu", "int8")
        assert stats.memory_bytes > 1 << 20


def test_memory_use_is_known_as_soon_as_the_engine_is_ready(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        engine.facts()
        assert engine.stats().memory_bytes > 1 << 20


def test_a_load_that_is_closed_says_so(loader: FakeLoader) -> None:
    os.mkfifo(loader.folder / "starts")  # which holds the load
    engine = SupervisedEngine(loader, "fake", patience=QUICK)
    with ThreadPoolExecutor(1) as pool:
        facts = pool.submit(engine.facts)
        engine.close()
        with pytest.raises(ModelUnavailable, match="Loading the model 'fake' was cancelled"):
            facts.result(DEADLINE_S)


def test_close_fails_what_waits_and_ends_the_process(loader: FakeLoader) -> None:
    with supervised(loader) as engine, held(loader, engine) as first:
        process = pid(engine)
        waiting = submit(engine, 0)
        engine.close()
        for future in (first, waiting):
            assert isinstance(future.exception(0), Unavailable)
        assert not is_alive(process)
        with pytest.raises(Unavailable, match="shutting down"):
            submit(engine, 1)
        assert engine.stats().state == "closed"


def test_close_can_drain_first(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        futures = [submit(engine, index) for index in range(10)]
        engine.close(drain_s=DEADLINE_S)
        assert [text(future) for future in futures] == [f" w{index}" for index in range(10)]


def test_close_does_not_wait_for_a_model_that_loads(loader: FakeLoader) -> None:
    os.mkfifo(loader.folder / "broken")  # reading it blocks
    engine = SupervisedEngine(loader, "fake")
    wait_until(lambda: (loader.folder / "starts").exists())
    process = pid(engine)
    engine.close()
    assert not is_alive(process)


def test_a_process_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOTTO_API_KEYS", "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "sk-secret")
    own = {"CUDA_VISIBLE_DEVICES": "1", "ONEDNN_MAX_CPU_ISA": "AVX2", "NPY_DISABLE_CPU_FEATURES": "X86_V4"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert "sk-secret" not in environment().values()
    assert environment().items() >= own.items()


# Processes that end.


def test_windows_in_flight_go_to_the_next_process(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine) as first:
            waiting = [submit(engine, index) for index in range(10)]
            kill(engine)
            wait_until(lambda: engine.stats().restarts == 1)
        assert [text(future) for future in [first, *waiting]] == [" w99", *(f" w{n}" for n in range(10))]
        assert text(submit(engine, 50)) == " w50"
        assert loader.starts == 2


def test_windows_that_come_while_there_is_no_process_wait_for_one(loader: FakeLoader) -> None:
    with supervised(loader, replace(QUICK, again_s=(0.5,))) as engine:
        kill(engine)
        wait_until(lambda: "SIGKILL" in engine.stats().reason)
        assert engine.stats().state == "restarting"
        assert text(submit(engine, 0)) == " w0"
        assert (engine.stats().state, engine.stats().reason) == ("ready", "")


def test_a_window_that_crashed_the_process_gets_a_second_chance(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        assert text(submit(engine, 0, "die once")) == " w0"
        assert engine.stats().restarts == 1


def test_a_window_that_crashes_the_process_twice_fails_alone(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine) as first:
            futures = [submit(engine, index, "die" if index == 2 else "") for index in range(8)]
        poison = futures.pop(2)
        with pytest.raises(Unavailable, match="failed twice"):
            poison.result(DEADLINE_S)
        assert [text(future) for future in [first, *futures]] == [" w99", *(f" w{n}" for n in range(8) if n != 2)]
        assert loader.starts == 3


def test_two_bad_windows_fail_alone_too(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine):
            futures = [submit(engine, index, "die" if index in (1, 2) else "") for index in range(4)]
        failed = [isinstance(future.exception(DEADLINE_S), Unavailable) for future in futures]
        assert failed == [False, True, True, False]


def test_a_window_that_only_waited_is_no_suspect(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine) as first:
            behind = submit(engine, 1)
            for killed in (1, 2, 3):
                wait_until(lambda: engine.stats().running == 1)
                kill(engine)
                wait_until(lambda killed=killed: engine.stats().restarts == killed)  # type: ignore[misc]
        assert isinstance(first.exception(DEADLINE_S), Unavailable)
        assert text(behind) == " w1"


def test_a_cancelled_suspect_does_not_delay_other_windows(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        with held(loader, engine):
            kill(engine)
            behind = submit(engine, 1)
            wait_until(lambda: engine.stats().restarts == 1 and engine.stats().running == 1)
            engine.cancel("other")
        assert text(behind) == " w1"


def test_a_lost_device_is_answered_by_a_fresh_process(tmp_path: Path) -> None:
    loader = FakeLoader(tmp_path, device="cuda")
    with supervised(loader) as engine:
        futures = [submit(engine, index, "lose" if index == 1 else "") for index in range(4)]
        assert [text(future) for future in futures] == [" w0", " w1", " w2", " w3"]
        assert loader.starts == 2


def test_a_process_that_lost_a_thread_is_replaced(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        assert text(submit(engine, 0, "thread")) == " w0"
        assert loader.starts == 2


def test_a_model_that_fails_a_probe_is_replaced(loader: FakeLoader) -> None:
    with supervised(loader, replace(QUICK, probe_every_s=0.1)) as engine:
        wait_until(lambda: engine.stats().restarts == 1)
        wait_until(lambda: engine.stats().state == "ready")
        assert text(submit(engine, 0)) == " w0"
        probes = loader.folder / "probes"
        wait_until(lambda: len(probes.read_text()) > 2)  # and works from then on
        assert loader.starts == 2


def test_a_model_that_hangs_in_a_probe_is_replaced(loader: FakeLoader) -> None:
    (loader.folder / "stuck").touch()
    with supervised(loader, replace(QUICK, probe_every_s=0.1, silent_s=3.0)) as engine:
        wait_until(lambda: engine.stats().restarts == 1)
        (loader.folder / "stuck").unlink()
        wait_until(lambda: engine.stats().state == "ready")
        assert text(submit(engine, 0)) == " w0"


def test_a_gpu_s_model_that_comes_back_on_the_cpu_is_not_taken(tmp_path: Path) -> None:
    loader = FakeLoader(tmp_path, device="cuda")
    with supervised(loader) as engine:
        (tmp_path / "device").write_text("cpu")
        kill(engine)
        wait_until(lambda: engine.stats().state == "broken")
        assert "on cpu instead of cuda" in engine.stats().reason


def test_a_process_that_ends_leaves_no_descriptor_and_no_thread_behind(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        before = held_here()
        for killed in range(1, 6):
            kill(engine)
            wait_until(lambda killed=killed: engine.stats().restarts == killed)  # type: ignore[misc]
            wait_until(lambda: engine.stats().state == "ready")
        assert held_here() == before


def test_a_signal_without_a_name_ends_a_process_like_any_other(loader: FakeLoader) -> None:
    with supervised(loader) as engine:
        os.kill(pid(engine), signal.SIGRTMIN + 1)
        wait_until(lambda: engine.stats().restarts == 1)
        assert text(submit(engine, 0)) == " w0"


def test_without_threads_no_process_is_left_behind(loader: FakeLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children_of(os.getpid()), held_here()
    allowed = iter([True])
    start = threading.Thread.start

    def refuse_the_second(thread: threading.Thread) -> None:
        if not next(allowed, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse_the_second)
        with pytest.raises(RuntimeError, match="new thread"):
            EngineProcess(Start(loader, "info", "text", 60.0), lambda life, message: None)
    wait_until(lambda: (children_of(os.getpid()), held_here()) == before)


def test_a_process_that_reads_no_messages_is_replaced(loader: FakeLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with supervised(loader) as engine:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "send", run_out_of_memory)
            waiting = submit(engine, 0)
            wait_until(lambda: engine.stats().restarts > 0)
        assert text(waiting) == " w0"


def held_here() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


# Models that don't load.


@pytest.mark.parametrize(
    ("how", "reason", "starts"),
    [
        ("no such file", "^no such file$", 1),  # another start would fail alike
        ("die", "'fake' is not running: it was ended by SIGABRT", 3),
    ],
)
def test_a_model_that_does_not_load_says_why(loader: FakeLoader, how: str, reason: str, starts: int) -> None:
    (loader.folder / "broken").write_text(how)
    with pytest.raises(ModelUnavailable, match=reason), supervised(loader):
        pass
    assert loader.starts == starts


@pytest.mark.parametrize(("how", "reason"), [("die", "SIGABRT"), ("out of memory", "out of memory")])
def test_a_model_that_no_longer_loads_is_broken_until_it_does(loader: FakeLoader, how: str, reason: str) -> None:
    with supervised(loader) as engine:
        with held(loader, engine) as waiting:
            (loader.folder / "broken").write_text(how)
            kill(engine)
            with pytest.raises(Unavailable, match=reason):
                waiting.result(DEADLINE_S)
        assert engine.stats().state == "broken"
        assert reason in engine.stats().reason
        with pytest.raises(Unavailable, match=reason):
            submit(engine, 0)
        (loader.folder / "broken").unlink()
        wait_until(lambda: engine.stats().state == "ready")
        assert text(submit(engine, 0)) == " w0"


# Processes that hang.


def test_a_stuck_batch_ends_its_process_and_other_windows_continue(loader: FakeLoader) -> None:
    with supervised(loader, replace(QUICK, wedged_s=2.0)) as engine:
        hung = submit(engine, 0, "hang")
        wait_until(lambda: engine.stats().running == 1)
        behind = submit(engine, 1)
        assert text(behind) == " w1"
        with pytest.raises(Unavailable, match="did not finish within"):
            hung.result(DEADLINE_S)
        assert engine.stats().restarts > 1


def test_a_process_without_heartbeats_is_replaced(loader: FakeLoader) -> None:
    with supervised(loader, replace(QUICK, silent_s=3.0)) as engine:
        os.kill(pid(engine), signal.SIGSTOP)
        assert text(submit(engine, 0)) == " w0"
        assert engine.stats().restarts > 0


def test_a_process_that_cannot_be_killed_is_left_behind(
    loader: FakeLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[ChildProcess] = []
    with monkeypatch.context() as patch:
        patch.setattr("server.engine.process.END_S", 0.1)
        patch.setattr(ChildProcess, "kill", lambda child: left.append(child))
        with supervised(loader, replace(QUICK, wedged_s=2.0)) as engine:
            hung = submit(engine, 0, "hang")
            wait_until(lambda: engine.stats().running == 1)
            assert text(submit(engine, 1)) == " w1"
            assert isinstance(hung.exception(DEADLINE_S), Unavailable)
    for child in left:
        child.close()


def test_a_model_that_hangs_while_it_loads_is_given_up(loader: FakeLoader) -> None:
    os.mkfifo(loader.folder / "broken")
    with (
        pytest.raises(ModelUnavailable, match="did not load within"),
        supervised(loader, replace(QUICK, load_s=1.0)),
    ):
        pass


@pytest.mark.parametrize(
    ("stats", "row_s", "hopeless"),
    [
        ({"running": 0}, 0.1, False),
        ({"running": 4, "running_s": 59.0}, 0.1, False),
        ({"running": 4, "running_s": 61.0}, 0.1, True),
        ({"running": 4, "running_s": 79.0, "runs": Durations().plus(6.0).plus(10.0)}, 0.1, False),  # 8 s each
        ({"running": 4, "running_s": 81.0, "runs": Durations().plus(6.0).plus(10.0)}, 0.1, True),
        ({"running": 8, "running_s": 300.0}, 5.0, False),  # the first batch of a slow model
        ({"running": 8, "running_s": 401.0}, 5.0, True),
        ({"running": 4, "running_s": 50.0, "queued": 4000}, 0.1, False),
    ],
)
def test_a_batch_is_stuck_by_its_age_whatever_is_queued(
    loader: FakeLoader, stats: dict[str, object], row_s: float, hopeless: bool
) -> None:
    life = EngineProcess.__new__(EngineProcess)
    life.ready = Ready(replace(loader.load().facts, row_s=row_s), 4, 100)
    life.silent_s = 0.0
    life.heartbeat = Heartbeat(EngineStats(**{"queued": 0, "done": 0, "failed": 0, "batches": 0, **stats}))  # type: ignore[arg-type]
    assert bool(SupervisorTimeouts().lost_with(life)) is hopeless


def test_pauses_grow_to_a_minute() -> None:
    pauses = [SupervisorTimeouts().pause_s(count) for count in range(10)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0, 60)
