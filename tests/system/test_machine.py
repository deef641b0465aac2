import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from server.system.machine import Memory, allow_open_files, filesystem, has_avx512, memory, usable_cpus


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


ALL_OF_IT = "avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("flags", "has"),
    [(f"flags : fpu {ALL_OF_IT} vme", True), ("flags : fpu avx2 avx512f", False), ("Features : asimd", False)],
)
def test_avx512_counts_where_all_of_it_is_there(tmp_path: Path, flags: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\nbugs :\n")
    assert has_avx512(tmp_path / "cpuinfo") is has


def test_where_the_cpu_cannot_be_read_there_is_no_avx512(tmp_path: Path) -> None:
    assert not has_avx512(tmp_path / "absent")


def test_blas_starts_no_threads() -> None:
    command = "import server, os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    clean = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", command], env=clean, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"


@pytest.fixture
def eight_gib(tmp_path: Path) -> Path:
    """What the kernel tells of a machine's memory: 8 GiB, 6 of them free."""
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\nHugePages_Total: 0\n")
    return file


@pytest.mark.parametrize(
    ("file", "limit", "allowed", "free"),
    [
        ("memory.max", str(2 << 30), 2, 2),
        ("memory.max", str(7 << 30), 7, 6),
        ("memory.max", "max", 8, 6),
        ("memory/memory.limit_in_bytes", str(2 << 30), 2, 2),
        ("memory/memory.limit_in_bytes", str(2**63 - 4096), 8, 6),
        ("nothing", "", 8, 6),
    ],
)
def test_memory_is_the_containers_or_the_machines(
    tmp_path: Path, eight_gib: Path, file: str, limit: str, allowed: int, free: int
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(f"{limit}\n")
    assert memory(eight_gib, tmp_path) == Memory(allowed << 30, free << 30)


def test_memory_is_none_where_it_cannot_be_read(tmp_path: Path) -> None:
    assert memory(tmp_path / "absent", tmp_path) is None


def test_a_folder_lies_on_the_last_file_system_mounted_around_it(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    mounts = tmp_path / "mounts"
    rows = [("/", "ext4"), (tmp_path, "xfs"), (tmp_path, "tmpfs"), (tmp_path / "inn", "nfs")]
    mounts.write_text("".join(f"dev {point} {kind} rw 0 0\n" for point, kind in rows))
    assert filesystem(inner, mounts) == "tmpfs"
    assert filesystem(tmp_path.parent, mounts) == "ext4"
    assert filesystem(inner, tmp_path / "absent") == ""


def test_as_many_files_may_be_open_as_the_system_grants() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
    try:
        allow_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
