import os
import time
from contextlib import suppress

import pytest

from server.audio.work_limit import SLOWEST, WorkLimit
from server.system.machine import cpu_s
from server.transcript import SAMPLE_RATE

TIMEOUT_S = 30.0
WORKER = 7


class Clock:
    """Times that a test sets."""

    now_s = 0.0
    cpu_s = 0.0

    def limit(self) -> WorkLimit:
        return WorkLimit(
            TIMEOUT_S, now_s=lambda: self.now_s, cpu_s=lambda pid: self.cpu_s if pid == WORKER else 0.0
        )


@pytest.mark.parametrize("decoded_s", [0, 60, 43_200])
def test_cpu_time_follows_what_is_decoded(decoded_s: int) -> None:
    clock = Clock()
    limit = clock.limit()
    limit.start(WORKER)
    limit.advance(decoded_s * SAMPLE_RATE)
    clock.cpu_s = TIMEOUT_S + decoded_s / SLOWEST
    assert not limit.is_exceeded
    clock.cpu_s += 0.1
    assert limit.is_exceeded


def test_a_worker_that_names_another_process_later_is_not_believed() -> None:
    clock = Clock()
    limit = clock.limit()
    clock.cpu_s = 2 * TIMEOUT_S
    assert not limit.is_exceeded  # it has not started
    limit.start(WORKER)
    limit.start(WORKER + 1)
    assert limit.is_exceeded


def test_real_time_counts_while_a_message_is_awaited_and_not_otherwise() -> None:
    clock = Clock()
    limit = clock.limit()
    limit.advance(10 * SAMPLE_RATE)
    clock.now_s += 10_000  # it stands still until it is asked to go on
    assert not limit.is_exceeded
    for _ in range(4):
        with limit.awaiting():
            clock.now_s += 10
    assert not limit.is_exceeded
    with suppress(TimeoutError), limit.awaiting():
        clock.now_s += 1
        raise TimeoutError
    assert limit.is_exceeded


def test_the_cpu_time_of_a_process_is_read() -> None:
    before_s, until_s = cpu_s(os.getpid()), time.process_time() + 0.2
    while time.process_time() < until_s:
        pass
    assert cpu_s(os.getpid()) >= before_s + 0.1
    assert cpu_s(1 << 22) == 0.0
