"""The child process that hosts an engine; `server.engine.supervisor` starts it.

The process exits, and sends the reason, whenever a fresh process is the remedy: when the model can't be loaded, its
device is lost or fails a probe, or a thread has died. It never cleans up: exiting releases everything.
"""

import faulthandler
import logging
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import NoReturn

from server import logs
from server.engine.engine import Engine
from server.engine.loader import LoadedModel
from server.engine.messages import Cancel, ExitReason, FromChild, Heartbeat, Ready, Result, Start, Submit, ToChild
from server.errors import SottoError
from server.stats import EngineStats
from server.system.child_process import attach
from server.system.machine import resident_bytes
from server.transcript import WindowResult

HEARTBEAT_S = 1.0
FAILED = 1  # exit status

logger = logging.getLogger(__name__)


class Line:
    """The connection to the parent, shared by all threads. Without a parent the process exits."""

    def __init__(self, connection: "Connection[FromChild, list[ToChild]]") -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: FromChild) -> None:
        with self._lock:
            try:
                self._connection.send(message)
            except OSError:
                os._exit(0)

    def receive(self) -> list[ToChild]:
        try:
            return self._connection.recv()
        except (EOFError, OSError):
            os._exit(0)

    def exit_with(self, reason: str) -> NoReturn:
        self.send(ExitReason(reason))
        os._exit(FAILED)


class EngineHost:
    """An engine at the child's end of a `Line`."""

    def __init__(self, line: Line, loaded: LoadedModel) -> None:
        self._line = line
        self._probe = loaded.probe
        self._lock = threading.Lock()  # guards the numbers, and keeps heartbeats in order
        self._numbers: dict[Future[WindowResult], int] = {}
        self._engine = Engine(loaded.model, loaded.limits, watch=self._send_heartbeat)

    def send_ready(self, loaded: LoadedModel) -> None:
        self._send_heartbeat()  # so that its memory use is known as soon as it is ready
        self._line.send(Ready(loaded.facts, self._engine.max_batch, loaded.limits.max_queued))

    def serve(self) -> NoReturn:
        """Handle the parent's messages until it disconnects."""
        while True:
            for message in self._line.receive():
                match message:
                    case Submit():
                        self._submit(message)
                    case Cancel(request):
                        self._engine.cancel(request)

    def send_heartbeats(self, probe_every_s: float) -> NoReturn:
        """Send the parent a heartbeat every second; probe a model that has been idle for a while."""
        idle_since_s, batches = time.monotonic(), 0
        while True:
            time.sleep(HEARTBEAT_S)
            stats = self._send_heartbeat()
            if stats.queued or stats.running or stats.batches != batches:
                idle_since_s, batches = time.monotonic(), stats.batches
            elif time.monotonic() - idle_since_s >= probe_every_s:
                self._try_out()
                idle_since_s = time.monotonic()

    def _submit(self, message: Submit) -> None:
        try:
            with self._lock:
                future = self._engine.submit(
                    message.window, message.options, request=message.request, priority=message.priority
                )
                self._numbers[future] = message.number
        except Exception as error:  # for example options that the model doesn't support
            self._line.send(Result(message.number, _portable(error)))
        else:
            future.add_done_callback(self._answer)

    def _answer(self, future: Future[WindowResult]) -> None:
        with self._lock:
            number = self._numbers.pop(future)
        if future.cancelled():  # by the parent
            return
        error = future.exception()
        if error and (stats := self._engine.stats()).state == "broken":
            self._line.exit_with(stats.reason)  # no result: a fresh process may succeed
        self._line.send(Result(number, _portable(error) if error else future.result()))

    def _send_heartbeat(self) -> EngineStats:
        with self._lock:
            stats = replace(self._engine.stats(), memory_bytes=resident_bytes())
            running = self._engine.running()
            numbers = tuple(self._numbers[future] for future in running if future in self._numbers)
            self._line.send(Heartbeat(stats, numbers, tuple(self._engine.turns())))
        return stats

    def _try_out(self) -> None:
        try:
            self._probe()
        except Exception as error:
            logger.exception("the model's self-test failed")
            self._line.exit_with(f"The model failed its self-test: {error}")


def _portable(error: BaseException) -> Exception:
    """An error that can be pickled: those of libraries may not be, and only the log needs to distinguish them."""
    return error if isinstance(error, SottoError) else RuntimeError(f"{type(error).__name__}: {error}")


def _load(line: Line, start: Start) -> LoadedModel:
    try:
        return start.loader.load()
    except SottoError as error:
        line.exit_with(error.message)


def _serve(line: Line) -> NoReturn:
    (start,) = line.receive()
    assert isinstance(start, Start)  # noqa: S101 - both ends are of one version
    logs.set_up(start.log_level, start.log_format)
    loaded = _load(line, start)
    host = EngineHost(line, loaded)
    host.send_ready(loaded)
    threading.Thread(target=host.send_heartbeats, args=[start.probe_every_s], name="pulse", daemon=True).start()
    host.serve()


def main() -> NoReturn:
    channel, _ = attach()
    line = Line(Connection(channel.detach()))
    faulthandler.enable()  # a crash in native code leaves its stack in the log
    threading.excepthook = lambda failure: _fail(line, failure.exc_value)
    try:
        _serve(line)
    except Exception as error:
        _fail(line, error)


def _fail(line: Line, error: BaseException | None) -> NoReturn:
    """Exit because a thread has died: the others would wait forever."""
    logger.critical("the engine process failed", exc_info=error)
    line.exit_with(f"The engine process failed: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
