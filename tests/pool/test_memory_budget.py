import math

import pytest

from server.errors import ModelBroken
from server.models.dimensions import Dimensions
from server.models.known_model import KnownModel
from server.pool.memory_budget import Budget, Need
from server.settings import Settings
from server.system import machine

SMALL = KnownModel(("small",), dimensions=Dimensions(768, 12, 12, 80, 51_865))
UNKNOWN = KnownModel(("unknown",), size_bytes=1 << 30)
GPU_BYTES = 8 << 30


def by_size(limit_bytes: float = math.inf, most_bytes: float = math.inf) -> Budget:
    return Budget(lambda known: Need(known.size_bytes, known.size_bytes // 2), limit_bytes, most_bytes)


def sized(size_bytes: int) -> KnownModel:
    return KnownModel((f"of {size_bytes}",), size_bytes=size_bytes)


def test_missing_bytes_are_those_beyond_the_limit() -> None:
    budget = by_size(100)
    assert budget.missing_bytes(sized(40), []) <= 0
    assert budget.missing_bytes(sized(40), [sized(60)]) == 0
    assert budget.missing_bytes(sized(41), [sized(30), sized(30)]) == 1


def test_a_model_larger_than_the_limit_may_have_it_alone() -> None:
    budget = by_size(100, 80)
    assert budget.missing_bytes(sized(150), []) == 0
    assert budget.missing_bytes(sized(150), [sized(1)]) == 1


def test_a_model_that_can_never_fit_raises() -> None:
    with pytest.raises(ModelBroken, match=r"'of 202'.* the limit is 0 MiB \(SOTTO_MEMORY_BUDGET_MB\)"):
        by_size(100, 100).need_bytes(sized(202))


def test_without_a_setting_models_may_have_a_share_of_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.pool.memory_budget.memory", lambda: machine.Memory(4 << 30, 1 << 30))
    assert Budget.of(Settings(), "cpu", "int8", 0).limit_bytes == 3 << 30
    assert Budget.of(Settings(), "cuda", "float16", GPU_BYTES).limit_bytes == GPU_BYTES * 0.9


def test_where_nothing_is_known_of_memory_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.pool.memory_budget.memory", lambda: None)
    assert Budget.of(Settings(), "cpu", "int8", 0).limit_bytes == math.inf
    assert Budget.of(Settings(), "cuda", "float16", 0).limit_bytes == math.inf


def test_a_setting_holds_for_every_model() -> None:
    budget = Budget.of(Settings(memory_budget_mb=1000), "cpu", "int8", 0)
    assert budget.limit_bytes == 1000 << 20
    with pytest.raises(ModelBroken, match=r"'small'.* needs about \d{4} MiB of memory, but the limit is 1000 MiB"):
        budget.need_bytes(SMALL)


def test_need_is_estimated_for_the_largest_batch_of_the_settings() -> None:
    def usual(**settings: object) -> int:
        return Budget.of(Settings.model_validate(settings), "cpu", "int8", 0).estimate(SMALL).usual

    assert usual(bulk_batch=1, batch=1) < usual() < usual(bulk_batch=16)
    assert usual(beam_size=1) < usual()
    need = Budget.of(Settings(), "cpu", "int8", 0).estimate(SMALL)
    assert need.least < need.usual


def test_a_model_of_unknown_dimensions_is_estimated_by_its_files() -> None:
    need = Budget.of(Settings(), "cpu", "int8", 0).estimate(UNKNOWN)
    assert need.usual == need.least > 1 << 30
