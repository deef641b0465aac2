import pytest

from server.api.gate import repeated_lines
from server.api.gate.repeated_lines import INTERVAL_S, RepeatedLines

STRANGER = "192.0.2.7"


class Clock:
    s = 50.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> RepeatedLines:
    return RepeatedLines(clock)


def test_one_line_per_interval_says_how_many_were_left_out(lines: RepeatedLines, clock: Clock) -> None:
    assert [lines.left_out_before(STRANGER) for _ in range(4)] == [0, None, None, None]
    clock.s += INTERVAL_S
    assert [lines.left_out_before(STRANGER) for _ in range(2)] == [3, None]
    clock.s += INTERVAL_S
    assert lines.left_out_before(STRANGER) == 1
    clock.s += INTERVAL_S
    assert lines.left_out_before(STRANGER) == 0


def test_each_client_has_its_own(lines: RepeatedLines) -> None:
    addresses = [STRANGER, "192.0.2.8", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
    assert [lines.left_out_before(address) for address in addresses] == [0, 0, 0, None, 0]


def test_lines_of_this_machine_are_all_let_through(lines: RepeatedLines) -> None:
    assert [lines.left_out_before(address) for address in ("127.0.0.1", "::1") * 3] == [0] * 6


def test_memory_is_bounded(lines: RepeatedLines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_lines, "CLIENTS", 2)
    assert [lines.left_out_before(f"192.0.2.{n}") for n in (1, 2, 3, 1, 3)] == [0, 0, 0, 0, None]
