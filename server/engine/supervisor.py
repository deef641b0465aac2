"""An engine in a process of its own, restarted when it ends, so that no submitted window is lost.

Windows are kept here until their results arrive. Those that ran when a process ended go first in the next one, one
by one: a window that ends it again fails, and the others don't. Knows processes and threads; no HTTP.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Literal

from server.engine.loader import ModelFacts, ModelLoader
from server.engine.messages import Cancel, ExitReason, FromChild, Heartbeat, Ready, Result, Start
from server.engine.pending import PendingWindows
from server.engine.process import NO_HEARTBEAT, EngineProcess
from server.errors import ModelUnavailable, QueueFull, SottoError, Unavailable
from server.options import DecodingOptions, Priority
from server.stats import EngineState, EngineStats
from server.transcript import Window, WindowResult

LOADS = 3  # failed in a row, before a model counts as broken
POLL_S = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisorTimeouts:
    """Timeouts in seconds.

    A batch counts as stuck once it has run for `wedged_s` and for `wedged_times` its estimate; a process, after
    `silent_s` without a sign of life, or `load_s` while loading. It is restarted after `again_s`, or later
    if several processes in a row have ended without a result.
    """

    wedged_s: float = 60.0
    wedged_times: float = 10.0
    silent_s: float = 60.0
    load_s: float = 900.0
    again_s: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
    tick_s: float = 1.0
    probe_every_s: float = 60.0

    def pause_s(self, starts_without_result: int) -> float:
        """The delay before the next process, after `starts_without_result` in a row ended without a result."""
        return self.again_s[min(starts_without_result, len(self.again_s) - 1)]

    def lost_with(self, process: EngineProcess) -> str:
        """The reason to give up on `process`; empty if there is none. Being busy is no reason."""
        if process.ready is None:
            return f"it did not load within {self.load_s:g} s" if process.silent_s > self.load_s else ""
        if process.silent_s > self.silent_s:
            return f"it sent no heartbeat for {self.silent_s:g} s"
        stats = process.heartbeat.stats
        limit_s = max(self.wedged_s, self.wedged_times * _estimate_s(stats, process.ready.facts))
        return f"a batch did not finish within {limit_s:.0f} s" if stats.running_s > limit_s else ""


class SupervisedEngine:
    """The interface of `server.engine.engine.Engine`, over successive processes. `submit` never blocks."""

    def __init__(
        self,
        loader: ModelLoader,
        name: str,
        *,
        log_level: str = "info",
        log_format: Literal["text", "json"] = "text",
        patience: SupervisorTimeouts = SupervisorTimeouts(),
    ) -> None:
        """Start loading `loader` as the model `name`; `facts` waits for it. Must be closed."""
        self.max_batch = 1
        self._name = name
        self._start = Start(loader, log_level, log_format, patience.probe_every_s)
        self._patience = patience
        self._settled = threading.Event()  # set once loaded for the first time, or given up
        self._closing = threading.Event()
        self._lock = threading.Lock()  # guards everything below
        self._closed = False
        self._process: EngineProcess | None = None
        self._ready: Ready | None = None
        self._state: EngineState = "loading"
        self._reason = ""
        self._pending = PendingWindows()
        self._restarts = 0
        self._failed_loads = 0  # in a row
        self._starts_without_result = 0  # processes in a row that ended without a result
        # A daemon, unlike threads that call CTranslate2: its child processes end with this process anyway.
        self._thread = threading.Thread(target=self._supervise, name=f"supervisor of {name}", daemon=True)
        self._thread.start()

    def facts(self) -> ModelFacts:
        """Properties of the model, once it is loaded; raises `ModelUnavailable` if it can't be."""
        # With a timeout: else Python would miss a signal that arrived just before, or in another thread.
        while not self._settled.wait(POLL_S):
            pass
        if self._ready is None:
            raise ModelUnavailable(self._reason)
        return self._ready.facts

    def submit(
        self, window: Window, options: DecodingOptions, *, request: str, priority: Priority = "bulk"
    ) -> Future[WindowResult]:
        """As `Engine.submit`: raises `QueueFull`, or `Unavailable` once closed or while the model is broken."""
        with self._lock:
            if self._closed:
                raise Unavailable("The server is shutting down.")
            if self._state == "broken":
                raise Unavailable(self._reason)
            if self._ready and len(self._pending) >= self._ready.max_queued:
                raise QueueFull("Too much audio is waiting for this model.")
            pending = self._pending.add(window, options, request, priority)
            self._send()
        return pending.future

    def cancel(self, request: str) -> None:
        """Drop the windows of `request`: here at once, in the process at their next step."""
        with self._lock:
            gone = self._pending.pop_request(request)
            if self._process and any(pending.sent for pending in gone):
                self._process.post(Cancel(request))
            self._send()
        for pending in gone:
            pending.future.cancel()

    def position(self, request: str) -> int:
        """As `Engine.position`, from the last heartbeat."""
        with self._lock:
            heartbeat = self._process.heartbeat if self._process else NO_HEARTBEAT
            running = self._pending.requests(heartbeat.running)
        if request in running:
            return 0
        return heartbeat.turns.index(request) if request in heartbeat.turns else len(heartbeat.turns)

    def stats(self) -> EngineStats:
        """The last heartbeat's statistics, plus the windows waiting here, and the engine's state."""
        with self._lock:
            heartbeat = self._process.heartbeat if self._process else NO_HEARTBEAT
            waiting = self._pending.waiting(heartbeat.running)
            state: EngineState = "closed" if self._closed else self._state
            reason, ready, restarts = self._reason, self._ready, self._restarts
            pids = (self._process.pid,) if self._process else ()
        audio_s: dict[Priority, float] = {"interactive": 0.0, "bulk": 0.0}
        for message in waiting:
            audio_s[message.priority] += message.window.duration_s
        classes = Counter(message.priority for message in waiting)
        return replace(
            heartbeat.stats,
            queued=len(waiting),
            queued_by_class={priority: classes[priority] for priority in audio_s},
            queued_audio_s=audio_s,
            device=ready.facts.device if ready else "",
            compute_type=ready.facts.compute_type if ready else "",
            state=state,
            reason=reason,
            restarts=restarts,
            pids=pids,
        )

    def close(self, drain_s: float = 0.0) -> None:
        """Accept nothing more, wait up to `drain_s` for submitted windows, fail the rest, end the process."""
        with self._lock:
            self._closed = True
        deadline = time.monotonic() + drain_s
        while self._pending and time.monotonic() < deadline:
            self._closing.wait(POLL_S)
        self._closing.set()
        with self._lock:
            if self._process:
                self._process.kill()
        self._thread.join()
        if not self._settled.is_set():
            self._reason = f"Loading the model '{self._name}' was cancelled."
            self._settled.set()
        self._give_up(self._pending.numbers(), Unavailable("The server is shutting down."))

    def _supervise(self) -> None:
        """Run one process after the other."""
        while not self._closing.is_set():
            process, why = self._run_process()
            if self._closing.is_set():
                return
            with self._lock:
                crashed_twice = self._pending.take_back(process.heartbeat.running if process else ())
            self._give_up(crashed_twice, Unavailable(f"The engine process failed twice on this recording: {why}"))
            self._closing.wait(self._decide(process, why))

    def _run_process(self) -> tuple[EngineProcess | None, str]:
        """Run one process from start to exit; returns why it ended."""
        try:
            process = EngineProcess(self._start, self._on_message)
        except (OSError, RuntimeError) as error:  # out of processes or threads
            return None, f"it can't be started: {error}"
        with self._lock:
            self._process = process
            self._send()
        why = ""
        while not (process.ended.wait(self._patience.tick_s) or self._closing.is_set() or why):
            process.silent_s += self._patience.tick_s
            why = self._patience.lost_with(process)
        with self._lock:
            self._process = None
            if self._state == "ready":  # not ready any more: a process stuck in a driver can take long to kill
                self._state = "restarting"
        ended = process.close()
        return process, why or ended

    def _decide(self, process: EngineProcess | None, why: str) -> float:
        """Update the state after a process ended; returns the delay in s until the next one."""
        with self._lock:
            self._failed_loads = 0 if process and process.ready else self._failed_loads + 1
            # A stated reason, not a crash: at the start the operator has to fix it, later it may be temporary.
            never_ready = self._ready is None and (process is None or process.exit_reason != "")
            broken = never_ready or self._failed_loads >= LOADS
            self._state = "broken" if broken else "restarting"
            self._reason = why if never_ready else f"The model '{self._name}' is not running: {why}"
            pause_s = self._patience.pause_s(self._starts_without_result)
            self._starts_without_result += 1
            self._restarts += 1
            given_up = broken and self._ready is None
        if broken:
            self._give_up(self._pending.numbers(), Unavailable(self._reason))
        if given_up:
            self._closing.set()
            self._settled.set()
        else:
            logger.error("the engine process of %s ended: %s; restarting it in %g s", self._name, why, pause_s)
        return pause_s

    def _on_message(self, process: EngineProcess, message: FromChild) -> None:
        match message:
            case Ready():
                self._on_ready(process, message)
            case Heartbeat():
                process.heartbeat = message
            case Result(number, result):
                self._on_result(number, result)
            case ExitReason(reason):
                process.exit_reason = reason

    def _on_ready(self, process: EngineProcess, ready: Ready) -> None:
        with self._lock:
            device = (self._ready or ready).facts.device
            if ready.facts.device != device:  # "auto" falls back to a CPU when the GPU is gone
                process.exit_reason = f"it restarted on {ready.facts.device} instead of {device}"
                process.kill()
                return
            process.ready = self._ready = ready
            self.max_batch = ready.max_batch
            self._state, self._reason, self._failed_loads = "ready", "", 0
            self._send()
        if self._settled.is_set():
            logger.warning("the engine process of %s is running again", self._name)
        self._settled.set()

    def _on_result(self, number: int, result: WindowResult | Exception) -> None:
        with self._lock:
            done = self._pending.pop([number])
            self._starts_without_result = 0
            self._send()
        for pending in done:
            _settle(pending.future, result)

    def _send(self) -> None:
        """Send the windows that are due, if a process is ready for them."""
        if self._process and self._process.ready:
            for message in self._pending.send_next():
                self._process.post(message)

    def _give_up(self, numbers: Iterable[int], error: SottoError) -> None:
        with self._lock:
            given_up = self._pending.pop(numbers)
        for pending in given_up:
            _settle(pending.future, error)


def _estimate_s(stats: EngineStats, facts: ModelFacts) -> float:
    """Upper estimate for a batch: the time of windows with all their attempts, or one by one if longer."""
    return max(stats.runs.mean_s, stats.running * facts.row_s)


def _settle(future: Future[WindowResult], result: WindowResult | Exception) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
