"""One process that hosts an engine, from its start to its end, as the parent sees it.

Knows a process, a pipe and what goes through it; not what any of it is for.
"""

import os
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

from server.children import Child, clean_environment
from server.messages import Beat, FromChild, Ready, Start, ToChild
from server.stats import EngineStats

MODULE = "server.engine_host"
AT_ONCE = 16  # messages; a window is a megabyte
NO_BEAT = Beat(EngineStats(0, 0, 0, 0, 0))
# What CTranslate2 and what it stands on read, beside what every child gets.
LIBRARIES = ("CUDA_", "NVIDIA_", "CT2_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GLIBC_", "MALLOC_")
OFFLINE = {"HF_HUB_OFFLINE": "1"}


class Life:
    """One process, from its start to its end. What it says goes to `hear`, in a thread of its own."""

    def __init__(self, start: Start, hear: Callable[["Life", FromChild], None]) -> None:
        self.ready: Ready | None = None  # once it has loaded
        self.beat = NO_BEAT
        self.silent_s = 0.0
        self.last_words = ""
        self.ended = threading.Event()
        self._hear = hear
        self._child = Child(MODULE, environment=environment())
        self._connection: Connection[list[ToChild], FromChild] = Connection(self._child.channel.detach())
        self._outbox: queue.SimpleQueue[ToChild | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=run, name="engine-line", daemon=True) for run in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()
        self.post(start)

    @property
    def pid(self) -> int:
        return self._child.pid

    def post(self, message: ToChild) -> None:
        """Send `message`, without waiting for it."""
        self._outbox.put(message)

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> str:
        """End it if it has not ended; its last words, or how it ended."""
        self._child.kill()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()
        self._connection.close()
        status = self._child.close()
        return self.last_words or described(status)

    def _read(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                self.silent_s = 0.0
                self._hear(self, message)
        except (EOFError, OSError):
            pass
        finally:
            self.ended.set()

    def _write(self) -> None:
        """Send what has come at once: it can then share a batch there too."""
        with suppress(OSError):
            messages: list[ToChild | None] = []
            while None not in messages:
                messages = [self._outbox.get()]
                while len(messages) < AT_ONCE and not self._outbox.empty():
                    messages.append(self._outbox.get())
                self._connection.send([message for message in messages if message])


def environment() -> dict[str, str]:
    """What an engine's process needs of this one's: no setting, no key, no token."""
    own = {name: value for name, value in os.environ.items() if name.startswith(LIBRARIES) or name == "HOME"}
    return clean_environment() | own | OFFLINE


def described(status: int) -> str:
    """How a process ended."""
    if status >= 0:
        return f"it ended with status {status}"
    return f"it was ended by {signal.Signals(-status).name}"
