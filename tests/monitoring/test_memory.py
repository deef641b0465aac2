import os
import subprocess
import sys

import pytest

from server.monitoring.memory import Group, MemoryReader
from server.monitoring.nvml import Nvml

MEGABYTE = 1 << 20
HOLD = "import sys; held = bytearray(b'x' * (64 << 20)); print(flush=True); sys.stdin.read()"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def no_driver(name: str) -> None:
    raise OSError(name)


def test_memory_is_that_of_the_processes_of_a_group() -> None:
    holding = [
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in holding:
            assert process.stdout
            process.stdout.readline()
        pids = tuple(process.pid for process in holding)
        groups = [Group("main", "", (os.getpid(),)), Group("engine", "a", pids[:1]), Group("engine", "b", pids)]
        main, one, both = MemoryReader(Nvml(no_driver)).read(groups).processes
    finally:
        for process in holding:
            process.communicate()
    assert main.resident_bytes > MEGABYTE
    assert 64 * MEGABYTE < one.proportional_bytes < one.resident_bytes - MEGABYTE < 127 * MEGABYTE
    assert both.resident_bytes > one.resident_bytes + 64 * MEGABYTE


def test_processes_that_are_gone_hold_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (held,) = MemoryReader(Nvml(no_driver)).read([Group("media", "", (gone.pid,))]).processes
    assert (held.resident_bytes, held.proportional_bytes) == (0, 0)
