"""The real server in a process of its own, as a user starts it, for what only that shows."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx2
from openai import DefaultHttpxClient, OpenAI

from server.settings import PREFIX
from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until

ROOT = Path(__file__).parents[2]
START_S = 120.0
STOP_S = 120.0
REQUEST_S = 300.0
TRANSCRIPTIONS = "/v1/audio/transcriptions"

Fields = Mapping[str, str | list[str]]


class Running:
    """A server process: its address, what it has written, its end. Unless named, its port is a free one, and its
    model the bundled one.

    `prefix` is a command that runs the server's, in its own process.
    """

    def __init__(self, *prefix: str, **settings: object) -> None:
        chosen = {"port": 0, "models_dir": "/nonexistent/models", **settings}
        own = {f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items()}
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self.base_url = ""
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "server", "serve"],
            cwd=ROOT,
            env=others | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,  # a group of its own: children that outlive it are found, and ended, by it
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        """Everything written so far, to standard output and standard error."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str, deadline_s: float = START_S) -> re.Match[str]:
        """The first match of `pattern` in what the server writes; fails the test where none comes in time."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, "".join(self._lines))

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reader.is_alive(), deadline_s)
            match = found()
        assert match, f"no {pattern!r} in:\n{self.log}"
        return match

    def wait_until_ready(self) -> Self:
        self.base_url = self.wait_for_line(r"Ready[\s\S]*?(http://[\w.:\[\]]+)/v1/audio")[1]
        return self

    def transcribe(
        self, audio: str | bytes, fields: Fields | None = None, *, name: str | None = None, key: str = ""
    ) -> httpx2.Response:
        """The answer for a file of tests/data, by its name, or for the bytes of any file."""
        content = (DATA / audio).read_bytes() if isinstance(audio, str) else audio
        name = name or (audio if isinstance(audio, str) else "audio")
        return httpx2.post(
            f"{self.base_url}{TRANSCRIPTIONS}",
            data={"model": "whisper-1", **(fields or {})},
            files={"file": (name, content)},
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=REQUEST_S,
            trust_env=False,  # a proxy that the environment names is not for this machine's own addresses
        )

    def get(self, path: str, *, key: str = "") -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.get(f"{self.base_url}{path}", headers=headers, timeout=REQUEST_S, trust_env=False)

    def sdk(self, key: str = "sk-x") -> OpenAI:
        """OpenAI's client for this server; the caller closes it."""
        client = DefaultHttpxClient(trust_env=False)
        return OpenAI(base_url=f"{self.base_url}/v1", api_key=key, max_retries=0, http_client=client)

    def metric(self, name: str) -> float:
        """A series of /metrics that has no labels."""
        (value,) = re.findall(rf"^{name} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(value)

    def queue(self) -> tuple[int, int]:
        """Windows that wait and windows that run, as /health tells."""
        health = self.get("/health").json()
        return health["queued_windows"], health["running_windows"]

    def wait_until_busy(self) -> None:
        wait_until(lambda: self.queue()[1] > 0)

    def wait_until_idle(self) -> None:
        wait_until(lambda: self.queue() == (0, 0))

    def engines(self) -> list[int]:
        """The processes in which models run or are loaded."""
        return self.children("server.engine.host")

    def children(self, module: str) -> list[int]:
        """The processes that run `module` for the server."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(pid) for task in tasks for pid in task.read_text().split()]
        return [pid for pid in children if module in Path(f"/proc/{pid}/cmdline").read_text()]

    def open_files(self, kind: str) -> int:
        """How many files of a kind (`socket:`, `(deleted)`) the main process holds; on Linux."""
        found = 0
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found += kind in os.readlink(link)
        return found

    def resident_mb(self) -> float:
        """Memory of the main process; on Linux."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    def wait_until_model_runs(self) -> None:
        wait_until(lambda: self.get("/ready").status_code == 200)

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait_for_end(self, deadline_s: float = STOP_S) -> int:
        """The exit status, once the process has ended and has left none behind; fails the test if not in time."""
        try:
            status = self.process.wait(deadline_s)
            wait_until(lambda: not self._group_exists())
            return status
        finally:
            if self._group_exists():
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self._reader.join()
            if self.process.stdout:
                self.process.stdout.close()

    def _group_exists(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def started(*prefix: str, **settings: object) -> Iterator[Running]:
    """A process that may not be ready yet, or never will be; ended at the end, however the test went."""
    running = Running(*prefix, **settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.ask_to_stop()
        running.wait_for_end()


@contextmanager
def serving(*prefix: str, **settings: object) -> Iterator[Running]:
    """A server that is ready; it must end well, without a traceback in its log."""
    with started(*prefix, **settings) as running:
        yield running.wait_until_ready()
    assert running.process.returncode == 0, running.log
    assert "Traceback" not in running.log, running.log
