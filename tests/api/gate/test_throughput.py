from server.api.gate.throughput import HALF_LIFE_S, Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_speed_is_audio_for_time_with_work() -> None:
    clock = Clock()
    speed = Throughput(clock)
    speed.look(0.0, busy=True)
    assert speed.value is None
    clock.now += 2.0
    speed.look(20.0, busy=True)
    assert speed.value == 10.0


def test_idle_time_does_not_count() -> None:
    clock = Clock()
    speed = Throughput(clock)
    speed.look(0.0, busy=True)
    clock.now += 2.0
    speed.look(20.0, busy=False)
    clock.now += 3600.0
    speed.look(20.0, busy=True)
    clock.now += 2.0
    speed.look(40.0, busy=True)
    assert speed.value is not None
    assert round(speed.value, 9) == 10.0


def test_older_measurements_count_less() -> None:
    clock = Clock()
    speed = Throughput(clock)
    speed.look(0.0, busy=True)
    clock.now += HALF_LIFE_S
    speed.look(100 * HALF_LIFE_S, busy=True)
    assert speed.value == 100.0
    total_s = 100 * HALF_LIFE_S
    for _ in range(10):
        clock.now += HALF_LIFE_S
        total_s += HALF_LIFE_S
        speed.look(total_s, busy=True)
    assert 1.0 < speed.value < 1.1
