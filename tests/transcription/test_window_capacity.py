import asyncio

import pytest

from server.transcription.window_capacity import WindowCapacity
from tests.support.fakes import peek

pytestmark = pytest.mark.anyio


class Windows:
    """Windows of clients, each of which holds its place until it is ended; in the order in which they got one."""

    def __init__(self, places: int) -> None:
        self.capacity = WindowCapacity(places)
        self.held: list[str] = []
        self._ends: list[asyncio.Event] = []

    def start(self, client: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._hold(client))

    async def end_oldest(self) -> None:
        self._ends[next(n for n, end in enumerate(self._ends) if not end.is_set())].set()
        await peek()

    async def _hold(self, client: str) -> None:
        async with self.capacity.place(client):
            end = asyncio.Event()
            self.held.append(client)
            self._ends.append(end)
            await end.wait()


async def test_a_client_with_one_window_gets_the_next_place() -> None:
    windows = Windows(places=2)
    tasks = [windows.start("A") for _ in range(20)]
    await peek()
    tasks += [windows.start("B"), windows.start("C")]
    await peek()
    for _ in range(4):
        await windows.end_oldest()
    assert windows.held == ["A", "A", "A", "B", "C", "A"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_more_windows_than_places_are_held() -> None:
    windows = Windows(places=3)
    tasks = [windows.start(client) for client in "ABABAB"]
    await peek()
    assert windows.held == ["A", "B", "A"]
    for _ in tasks:
        await windows.end_oldest()
    await asyncio.gather(*tasks)
    assert len(windows.held) == 6


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_window_leaves_its_place_to_others(granted: bool) -> None:
    windows = Windows(places=1)
    first = windows.start("A")
    await peek()
    cancelled, last = windows.start("B"), windows.start("C")
    await peek()
    if granted:  # in the same round of the loop in which it is cancelled
        first.cancel()
        await asyncio.sleep(0)
    cancelled.cancel()
    await peek()
    if not granted:
        await windows.end_oldest()
    await asyncio.gather(first, cancelled, return_exceptions=True)
    await peek()
    assert windows.held == ["A", "C"]
    last.cancel()
    await asyncio.gather(last, return_exceptions=True)
    async with asyncio.timeout(10), windows.capacity.place("D"):
        pass
