import os
from pathlib import Path

import pytest

from server.machine import usable_cpus


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel lets this process run on eight CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def version_2(folder: Path, limit: str) -> None:
    (folder / "cpu.max").write_text(f"{limit}\n")


def version_1(folder: Path, quota: str, period: str) -> None:
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("50000 25000", 2),
        ("6400000 100000", 8),
    ],
)
def test_a_quota_of_cgroup_version_2_is_kept(tmp_path: Path, limit: str, cpus: int) -> None:
    version_2(tmp_path, limit)
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(
    ("quota", "period", "cpus"), [("-1", "100000", 8), ("200000", "100000", 2), ("150000", "100000", 2)]
)
def test_a_quota_of_cgroup_version_1_is_kept(tmp_path: Path, quota: str, period: str, cpus: int) -> None:
    version_1(tmp_path, quota, period)
    assert usable_cpus(tmp_path) == cpus


def test_version_2_goes_before_version_1(tmp_path: Path) -> None:
    version_2(tmp_path, "300000 100000")
    version_1(tmp_path, "500000", "100000")
    assert usable_cpus(tmp_path) == 3


def test_without_a_cgroup_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "absent") == 8


@pytest.mark.parametrize(("counted", "cpus"), [(6, 6), (None, 1)])
def test_without_affinity_all_cpus_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: int | None, cpus: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: counted)
    assert usable_cpus(tmp_path) == cpus
