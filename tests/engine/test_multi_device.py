from concurrent.futures import Future
from dataclasses import replace

import pytest

from server.engine.multi_device import MultiDeviceEngine
from server.errors import Unavailable
from server.options import DecodingOptions
from server.stats import Durations, EngineState, EngineStats
from server.transcript import WindowResult
from tests.support.fakes import FakeEngine, make_window

DECODING = DecodingOptions()


class OneOfSeveral(FakeEngine):
    """Holds what it is given until it is let go."""

    def __init__(self, state: EngineState = "ready") -> None:
        super().__init__(held=True, max_batch=4)
        self.state: EngineState = state

    def stats(self) -> EngineStats:
        return replace(
            super().stats(), state=self.state, reason=self.state, memory_bytes=100, runs=Durations().plus(2)
        )


def submit(spread: MultiDeviceEngine, number: int, request: str = "r") -> Future[WindowResult]:
    return spread.submit(make_window(number), DECODING, request=request)


def test_windows_go_to_the_engine_with_the_fewest() -> None:
    engines = [OneOfSeveral(), OneOfSeveral()]
    spread = MultiDeviceEngine(engines)
    for number in range(4):
        submit(spread, number)
    assert [len(engine.waiting) for engine in engines] == [2, 2]
    engines[1].resolve(*engines[1].waiting)
    for number in range(4, 7):
        submit(spread, number)
    assert [len(engine.waiting) for engine in engines] == [3, 2]


def test_results_come_from_whichever_has_the_window() -> None:
    engines = [OneOfSeveral(), OneOfSeveral()]
    spread = MultiDeviceEngine(engines)
    futures = [submit(spread, number) for number in range(2)]
    for engine in engines:
        engine.resolve()
    assert [future.result(1).segments[0].text for future in futures] == [" w0", " w1"]


@pytest.mark.parametrize("state", ["broken", "closed"])
def test_an_engine_that_can_not_work_gets_nothing(state: EngineState) -> None:
    engines = [OneOfSeveral(state), OneOfSeveral()]
    spread = MultiDeviceEngine(engines)
    for number in range(3):
        submit(spread, number)
    assert [len(engine.waiting) for engine in engines] == [0, 3]


def test_a_refused_window_is_not_counted() -> None:
    class Full(OneOfSeveral):
        def submit(self, *_: object, **__: object) -> Future[WindowResult]:
            raise Unavailable("broken")

    engines = [Full(), OneOfSeveral()]
    spread = MultiDeviceEngine(engines)
    for number in range(3):  # counted, it would make the other engine the one with the fewest
        with pytest.raises(Unavailable):
            submit(spread, number)
    assert engines[1].waiting == []


def test_a_cancelled_request_leaves_all_engines() -> None:
    engines = [OneOfSeveral(), OneOfSeveral()]
    spread = MultiDeviceEngine(engines)
    stays = submit(spread, 0, "stays")
    gone = [submit(spread, number, "gone") for number in range(1, 4)]
    spread.cancel("gone")
    assert all(future.cancelled() for future in gone)
    assert not stays.done()
    submit(spread, 4, "next")  # to the engine with nothing to do
    assert [len(engine.waiting) for engine in engines] == [1, 1]


def test_the_position_of_a_request_is_that_of_its_first_windows() -> None:
    engines = [OneOfSeveral(), OneOfSeveral()]
    spread = MultiDeviceEngine(engines)
    engines[0].ahead, engines[1].ahead = 3, 1
    submit(spread, 0, "one window")
    assert spread.position("one window") == 3
    submit(spread, 1, "one window")
    assert spread.position("one window") == 1
    assert spread.position("none yet") == 1


def test_stats_are_those_of_all_and_the_state_that_of_the_best() -> None:
    spread = MultiDeviceEngine([OneOfSeveral("broken"), OneOfSeveral()])
    for number in range(3):
        submit(spread, number)
    stats = spread.stats()
    assert (stats.queued, stats.memory_bytes, stats.runs.sum_s) == (3, 200, 4)
    assert (stats.state, stats.reason) == ("ready", "ready")
    assert spread.max_batch == 8


def test_closing_closes_all() -> None:
    engines = [OneOfSeveral(), OneOfSeveral()]
    MultiDeviceEngine(engines).close()
    assert all(engine.closed for engine in engines)
