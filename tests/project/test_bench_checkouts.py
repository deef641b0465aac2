"""How two checkouts are measured against each other, and what their table says."""

from collections.abc import Callable

from benchmarks.bench_checkouts import Figures, in_turns, table


def test_sides_alternate_and_the_first_round_counts_for_nothing() -> None:
    order: list[str] = []

    def side(name: str) -> Callable[[], Figures]:
        def measure() -> Figures:
            order.append(name)
            return {"s": float(len(order))}

        return measure

    pairs = in_turns((side("old"), side("new")), rounds=2)
    assert order == ["new", "old", "old", "new", "new", "old"]
    assert pairs == [({"s": 3.0}, {"s": 4.0}), ({"s": 6.0}, {"s": 5.0})]


def test_the_ratio_is_of_each_round_not_of_the_medians() -> None:
    pairs: list[tuple[Figures, Figures]] = [
        ({"s": 1.0}, {"s": 2.0}),
        ({"s": 4.0}, {"s": 2.0}),
        ({"s": 8.0}, {"s": 8.0}),
    ]
    assert list(table(pairs)) == ["s: 4.000 before, 2.000 now, ratio 1.000 (0.50 to 2.00)"]
