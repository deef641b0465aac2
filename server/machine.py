"""What this process may use of the machine it runs on."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may keep busy: the fewer of its affinity mask and its cgroup's quota, at least 1.

    OpenMP and CTranslate2 count hardware threads and so overcommit inside a container with a quota.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota(cgroup)))


def _quota(cgroup: Path) -> int:
    """CPUs of the cgroup's quota, rounded up; very many where there is none. Reads versions 2 and 1."""
    unlimited = 1 << 16
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return unlimited
    if quota == "max" or int(quota) <= 0:
        return unlimited
    return math.ceil(int(quota) / int(period))
