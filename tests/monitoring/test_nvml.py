"""The driver's library, stood in for: no GPU is needed."""

from typing import Any

from server.monitoring.nvml import LIBRARY, GpuMemory, Nvml

USED, TOTAL = 3 << 30, 24 << 30


class Driver:
    """Two GPUs, as NVML tells of them: by writing through pointers. Those in `gone` fail."""

    def __init__(self, *, starts: bool = True, gone: frozenset[int] = frozenset()) -> None:
        self.opened: list[str] = []
        self._starts = starts
        self._gone = gone

    def load(self, name: str) -> "Driver":
        self.opened.append(name)
        return self

    def nvmlInit_v2(self) -> int:
        return 0 if self._starts else 9

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        device._obj.value = 1000 + index.value
        return 15 if index.value in self._gone else 0

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.used = TOTAL, USED + device.value
        return 0


def test_each_gpu_reports_its_memory_and_the_library_is_opened_once() -> None:
    driver = Driver()
    nvml = Nvml(driver.load)
    for _ in range(2):
        assert nvml.gpus() == [GpuMemory(0, USED + 1000, TOTAL), GpuMemory(1, USED + 1001, TOTAL)]
    assert driver.opened == [LIBRARY]


def test_a_gpu_that_has_fallen_off_its_bus_hides_no_other() -> None:
    assert Nvml(Driver(gone=frozenset({0})).load).gpus() == [GpuMemory(1, USED + 1001, TOTAL)]


def test_a_driver_that_does_not_start_has_no_gpus() -> None:
    assert Nvml(Driver(starts=False).load).gpus() == []


def test_without_a_driver_there_are_no_gpus_and_it_is_looked_for_once() -> None:
    asked = []

    def load(name: str) -> Any:
        asked.append(name)
        raise OSError

    nvml = Nvml(load)
    assert (nvml.gpus(), nvml.gpus(), asked) == ([], [], [LIBRARY])
