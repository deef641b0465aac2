"""Places for windows that are with the engines, of all requests: clients take turns at those that get free."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class WindowCapacity:
    """A semaphore that is fair by client: a client with hundreds of windows waiting gets one place per round."""

    def __init__(self, places: int) -> None:
        self._free = places
        # In the order of the clients' turns. Clients without waiting windows are not in there.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Hold a place until the block ends, once there is one."""
        await self._take(client)
        try:
            yield
        finally:
            self._free += 1
            self._grant()

    async def _take(self, client: str) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(granted)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # it was granted at the same moment
                self._free += 1
                self._grant()
            raise

    def _grant(self) -> None:
        while self._free and self._waiting:
            client, waiting = self._waiting.popitem(last=False)
            granted = waiting.popleft()
            if waiting:
                self._waiting[client] = waiting  # behind the others
            if not granted.cancelled():
                granted.set_result(None)
                self._free -= 1
