"""One engine process from start to exit, seen from the parent.

Knows a process, a pipe and messages, not their meaning.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from server.engine.messages import FromChild, Heartbeat, Ready, Start, ToChild
from server.stats import EngineStats
from server.system.child_process import ChildProcess, clean_environment, described

MODULE = "server.engine.host"
AT_ONCE = 16  # messages; a window is about a megabyte
NO_HEARTBEAT = Heartbeat(EngineStats(0, 0, 0, 0, 0))
# Variables that CTranslate2 and its libraries read, in addition to those that every child gets.
LIBRARIES = tuple("CUDA_ NVIDIA_ CT2_ ONEDNN_ DNNL_ OMP_ GOMP_ KMP_ MKL_ OPENBLAS_ GLIBC_ MALLOC_".split())
OFFLINE = {"HF_HUB_OFFLINE": "1"}
END_S = 30.0  # from SIGKILL to exit; a process stuck in a device driver may never exit

logger = logging.getLogger(__name__)


class EngineProcess:
    """One process from start to exit. Its messages are passed to `on_message`, in a thread of its own."""

    def __init__(self, start: Start, on_message: Callable[["EngineProcess", FromChild], None]) -> None:
        self.ready: Ready | None = None  # set once it has loaded
        self.heartbeat = NO_HEARTBEAT
        self.silent_s = 0.0
        self.exit_reason = ""
        self.ended = threading.Event()
        self._on_message = on_message
        self._child = ChildProcess(MODULE, environment=environment())
        self._connection: Connection[list[ToChild], FromChild] = Connection(self._child.channel.detach())
        self._outbox: queue.SimpleQueue[ToChild | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=run, name="engine-line", daemon=True) for run in (self._read, self._write)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:  # out of threads
            self._child.close()
            self._connection.close()
            raise
        self.post(start)

    @property
    def pid(self) -> int:
        return self._child.pid

    def post(self, message: ToChild) -> None:
        """Send `message` without blocking."""
        self._outbox.put(message)

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> str:
        """Kill it if it is running; returns the reason it gave, or its status. Abandoned if it can't be killed."""
        self._child.kill()
        self._outbox.put(None)
        if not self.ended.wait(END_S):
            logger.critical("process %d can't be killed: its device may need a reset", self.pid)
            return "it can't be killed"
        for thread in self._threads:
            thread.join()
        self._connection.close()
        status = self._child.close()
        return self.exit_reason or described(status)

    def _read(self) -> None:
        try:
            while True:
                message = self._connection.recv()
                self.silent_s = 0.0
                self._on_message(self, message)
        except (EOFError, OSError):
            pass
        finally:
            self.ended.set()

    def _write(self) -> None:
        """Send waiting messages together, so that their windows can share a batch."""
        messages: list[ToChild | None] = []
        try:
            while None not in messages:
                messages = [self._outbox.get()]
                while len(messages) < AT_ONCE and not self._outbox.empty():
                    messages.append(self._outbox.get())
                self._connection.send([message for message in messages if message])
        except OSError:
            pass
        finally:
            self._child.kill()  # whatever failed: without messages the process is of no use


def environment() -> dict[str, str]:
    """Environment of an engine process: no setting, no key, no token."""
    own = {name: value for name, value in os.environ.items() if name.startswith(LIBRARIES) or name == "HOME"}
    return clean_environment() | own | OFFLINE
