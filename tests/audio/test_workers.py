import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from server.audio.media_decoder import MediaDecoder, Recording
from server.audio.messages import MAX_MESSAGE_BYTES
from server.audio.workers import MediaWorkers
from server.errors import Cancelled, Unavailable, UndecodableAudio
from server.options import UploadFd, VadOptions
from server.stats import MediaEnd
from server.system.machine import children_of
from server.system.sandbox import landlock_version
from server.transcript import Window
from tests.support.bad_inputs import BAD_INPUTS, DATA
from tests.support.fakes import DEADLINE_S, make_media, tone, upload, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="media workers need Linux")

STUB = "tests.support.stub_fork_server"
SOON_S = 1.0
MEMORY_BYTES = 256 << 20
RECORDINGS = "en_00.wav en_14.mp3 en_15.m4a en_16.ogg en_17.webm en_18.flac en_19.mp4 two_minutes.mp3".split()
EVERYTHING = VadOptions(enabled=False, window_s=1.0)
ENDINGS = ["crash", "abort", "exit", "kill"]
PARENT = """
import sys, time
from server.audio.media_decoder import MediaDecoder
from server.options import UploadFd, VadOptions
from server.audio.workers import MediaWorkers
from server.system.machine import children_of
from tests.support.fakes import upload
workers = MediaWorkers(memory_bytes=1 << 30, timeout_s=600, module="tests.support.stub_fork_server")
media = MediaDecoder(workers, workers=1, spool_bytes=1 << 30, max_audio_s=600)
with upload(sys.argv[1].encode()) as source:
    tell = lambda _: print(workers.pid, *children_of(workers.pid), flush=True)
    media.open(source, VadOptions(), on_window=tell)
    time.sleep(600)
"""


@dataclass
class Case:
    """Media over worker processes of its own."""

    workers: MediaWorkers
    media: MediaDecoder

    def scanned(self, source: str | bytes) -> "Scanned":
        """What becomes of an upload, in the end."""
        with upload(source) as opened:
            return Scanned.of(self.media, opened)


@dataclass
class Scanned:
    """All that is to be known of a recording from outside."""

    duration_s: float | None = None
    error: BaseException | None = None
    hint_s: float | None = None
    mel_max: float | None = None
    windows: list[Window] = field(default_factory=list)

    @classmethod
    def of(cls, media: MediaDecoder, source: UploadFd, options: VadOptions = EVERYTHING) -> "Scanned":
        scanned = cls()
        recording = media.open(source, options, on_window=scanned.windows.append, mels=80)
        scanned.finish(recording)
        return scanned

    def finish(self, recording: Recording) -> None:
        self.error = recording.finished.exception(3 * DEADLINE_S)  # processes may have to be started anew for it
        if not self.error:
            self.duration_s = recording.finished.result()
            self.windows = [recording.load(window) for window in self.windows]
        self.hint_s, self.mel_max = recording.duration_hint_s, recording.mel_max
        recording.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scanned) and self._values() == other._values()

    def _values(self) -> tuple[object, ...]:
        windows = [] if self.error else self.windows
        return self.duration_s, repr(self.error), self.hint_s, self.mel_max, windows


@contextmanager
def opened(module: str = STUB, *, timeout_s: float = DEADLINE_S) -> Iterator[Case]:
    """When all is through no worker, and nothing on disk, may be left."""
    workers = MediaWorkers(memory_bytes=MEMORY_BYTES, timeout_s=timeout_s, module=module)
    media = MediaDecoder(workers, workers=3, spool_bytes=1 << 30, max_audio_s=3600)
    with closing(media):
        yield Case(workers, media)
        wait_until(lambda: not children_of(workers.pid))
    assert media.spooled_bytes == 0


@pytest.fixture(scope="module")
def shared_case() -> Iterator[Case]:
    with opened() as case:
        yield case


@pytest.fixture(scope="module")
def impatient_case() -> Iterator[Case]:
    """Gives up soon."""
    with opened(timeout_s=SOON_S) as case:
        yield case


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def in_this_process(source: str | bytes) -> Scanned:
    with closing(make_media()) as media, upload(source) as opened:
        return Scanned.of(media, opened)


@pytest.mark.parametrize("name", [*RECORDINGS, *BAD_INPUTS])
def test_a_worker_gives_the_same_messages_as_this_process(shared_case: Case, name: str) -> None:
    source = BAD_INPUTS[name].build() if name in BAD_INPUTS else (DATA / name).read_bytes()
    assert shared_case.scanned(source) == in_this_process(source)


@pytest.mark.parametrize("command", ENDINGS)
def test_a_file_that_crashes_its_worker_is_refused_and_others_are_unaffected(
    shared_case: Case, command: str
) -> None:
    with upload(f"!{command}".encode()) as bad, upload("two_minutes.mp3") as good:
        recordings = [shared_case.media.open(each, EVERYTHING, on_window=lambda _: None) for each in (good, bad)]
        assert recordings[0].finished.result(DEADLINE_S) == pytest.approx(119.1, abs=0.1)
        error = recordings[1].finished.exception(DEADLINE_S)
        assert isinstance(error, UndecodableAudio)
        assert error.detail == "Every process that tried to decode it crashed."
        for recording in recordings:
            recording.close()


@pytest.mark.parametrize("command", ["sleep", "stick"])
def test_a_file_without_progress_times_out(impatient_case: Case, command: str) -> None:
    assert str(impatient_case.scanned(f"!{command}".encode()).error).endswith(
        f"Decoding it made no progress for {SOON_S:g} seconds (SOTTO_MEDIA_TIMEOUT_SECONDS)."
    )
    assert not children_of(impatient_case.workers.pid)


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        ("allocate", "Decoding it needs more memory than allowed (SOTTO_MEDIA_MEMORY_MB)."),
        ("overtime", "Decoding it takes too much CPU time."),
        ("hang-up", "Every process that tried to decode it crashed."),
    ],
)
def test_a_file_that_takes_too_much_is_refused(shared_case: Case, command: str, detail: str) -> None:
    error = shared_case.scanned(f"!{command}".encode()).error
    assert isinstance(error, UndecodableAudio)
    assert error.detail == detail


@pytest.mark.parametrize(
    ("command", "reason", "times"),
    [
        ("kill", "crashed", 2),
        ("allocate", "memory", 1),
        ("overtime", "cpu_time", 1),
        ("send 7b7d", "invalid_message", 1),
    ],
)
def test_workers_that_end_early_are_counted_by_reason(
    shared_case: Case, command: str, reason: MediaEnd, times: int
) -> None:
    before = shared_case.workers.stats().ended.get(reason, 0)
    shared_case.scanned(f"!{command}".encode())
    assert shared_case.workers.stats().ended[reason] == before + times


def test_workers_that_stall_are_counted(impatient_case: Case) -> None:
    before = impatient_case.workers.stats().ended.get("stalled", 0)
    impatient_case.scanned(b"!sleep")
    assert impatient_case.workers.stats().ended["stalled"] == before + 1


def test_an_internal_error_of_a_worker_is_one_short_line(shared_case: Case) -> None:
    error = shared_case.scanned(b"!fail").error
    assert isinstance(error, RuntimeError)
    assert re.fullmatch(r"a media worker failed: RuntimeError\('no\\nway!{150,200}", str(error))


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff\0",
        b"{}",
        b"[]",
        b'["reached"]',
        b"[" * 9_999,
        b" " * (MAX_MESSAGE_BYTES + 1),
        b'["reached", 160000]',
        b'["reached", 160001]',
        b'["reached", true]',
        b'["found", 1, []]',
        b'["found", 1, [[16000, 160001]]]',
        b'["found", 1, [[15999, 20000]]]',
        b'["found", 0, [[16000, 20000]]]',
        b'["found", 2, [[16000, 20000]]]',
        b'["found", 1, [[20000, 16000]]]',
        b'["found", 1, [[-5, 20000]]]',
        b'["found", 1, [[16000, 1e5]]]',
        b'["done", 159999, null]',
        b'["done", 160000, 1e999]',
        b'["opened", NaN]',
        b'["failed", "oops", ""]',
        b'["failed", "undecodable", "%s"]' % (b"x" * 201),
        b'["ended", 1e3]',
    ],
)
def test_a_worker_that_sends_an_invalid_message_is_ended_at_once(
    shared_case: Case, packet: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    scanned = shared_case.scanned(b"!send " + packet.hex().encode())
    assert repr(scanned.error) == repr(UndecodableAudio())
    assert [(window.offset, window.end) for window in scanned.windows] == [(0, 16_000)]
    assert "a media worker sent an invalid message" in caplog.text


@pytest.mark.parametrize("packet", ['["started"]', '["opened", 1.0]'])
def test_a_worker_that_floods_the_channel_is_ended(shared_case: Case, packet: str) -> None:
    assert repr(shared_case.scanned(f"!flood {packet}".encode()).error) == repr(UndecodableAudio())


def test_no_process_left_to_have_is_no_fault_of_the_file(shared_case: Case) -> None:
    error = shared_case.scanned(b"!send " + b'["ended", null]'.hex().encode()).error
    assert isinstance(error, Unavailable)


def test_a_worker_killed_from_outside_is_replaced_and_its_file_decoded_whole(shared_case: Case) -> None:
    scanned = Scanned()
    killed = threading.Event()

    def kill_once(window: Window) -> None:
        scanned.windows.append(window)
        if not killed.is_set():
            killed.set()
            (pid,) = children_of(shared_case.workers.pid)
            os.kill(pid, signal.SIGKILL)

    with upload("two_minutes.mp3") as source:
        scanned.finish(shared_case.media.open(source, EVERYTHING, on_window=kill_once, mels=80))
    assert killed.is_set()
    assert scanned == in_this_process("two_minutes.mp3")


def kill_fork_server(case: Case) -> None:
    with suppress(ProcessLookupError):
        os.kill(case.workers.pid, signal.SIGKILL)


def test_a_file_is_decoded_whole_though_the_fork_server_is_killed_three_times(shared_case: Case) -> None:
    scanned, killed = Scanned(), set[int]()

    def kill(window: Window) -> None:
        scanned.windows.append(window)
        if len(killed) < 3:
            killed.add(shared_case.workers.pid)
            kill_fork_server(shared_case)

    with upload("two_minutes.mp3") as source:
        scanned.finish(shared_case.media.open(source, EVERYTHING, on_window=kill, mels=80))
    assert len(killed) == 3
    assert scanned == in_this_process("two_minutes.mp3")


def test_a_repeatedly_killed_fork_server_is_not_the_files_fault(shared_case: Case) -> None:
    with upload(b"!sleep") as source:
        recording = shared_case.media.open(source, EVERYTHING, on_window=lambda _: None)

        def killed_to_the_end() -> bool:
            if children_of(shared_case.workers.pid):
                kill_fork_server(shared_case)
            return recording.finished.done()

        wait_until(killed_to_the_end, 5 * DEADLINE_S)
        assert isinstance(recording.finished.exception(), Unavailable)
        recording.close()


@pytest.mark.parametrize("victim", ["a worker", "the fork server"])
@pytest.mark.parametrize(
    "rounds", [3, pytest.param(20, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.soak)]
)
@pytest.mark.timeout(900)
def test_twenty_files_are_decoded_whole_though_processes_are_killed(
    shared_case: Case, victim: str, rounds: int
) -> None:
    expected = in_this_process("en_14.mp3")

    def kill_one() -> None:
        wait_until(lambda: bool(children_of(shared_case.workers.pid)))
        pids = children_of(shared_case.workers.pid) if victim == "a worker" else [shared_case.workers.pid]
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)

    for _ in range(rounds):
        results = [Scanned() for _ in range(20)]
        with ExitStack() as stack:
            sources = [stack.enter_context(upload("en_14.mp3")) for _ in results]
            recordings = [
                shared_case.media.open(source, EVERYTHING, on_window=scanned.windows.append, mels=80)
                for source, scanned in zip(sources, results, strict=True)
            ]
            kill_one()
            for scanned, recording in zip(results, recordings, strict=True):
                scanned.finish(recording)
        assert results == [expected] * 20
        assert shared_case.scanned("en_00.wav").duration_s == pytest.approx(2.44, abs=0.01)


@pytest.mark.parametrize("command", ["sleep", "stick"])
def test_closing_frees_a_worker_that_hangs(shared_case: Case, command: str) -> None:
    begun = threading.Event()
    with upload(f"!{command}".encode()) as source:
        recording = shared_case.media.open(source, EVERYTHING, on_window=lambda _: begun.set())
        assert begun.wait(DEADLINE_S)
        closed_at = time.monotonic()
        recording.close()
        assert isinstance(recording.finished.exception(DEADLINE_S), Cancelled)
        assert time.monotonic() - closed_at < 10  # the goal is one second
        assert not children_of(shared_case.workers.pid)


def test_an_idle_fork_server_that_ends_is_replaced(shared_case: Case) -> None:
    before = shared_case.workers.pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_alive(before))
    assert shared_case.scanned("en_00.wav").error is None
    assert shared_case.workers.pid != before


def test_a_fork_server_that_no_longer_forks_is_replaced() -> None:
    with opened(timeout_s=5 * SOON_S) as case:  # which the next one may need until it forks
        assert case.scanned("en_00.wav").error is None  # it has begun to fork
        before = case.workers.pid
        os.kill(before, signal.SIGSTOP)
        assert case.scanned("en_00.wav").error is None
        assert case.workers.pid != before
        assert not is_alive(before)


def test_workers_that_do_not_start_are_the_servers_error_not_the_files() -> None:
    with opened("tests.no_such_module") as case:
        with pytest.raises(Unavailable, match="no media worker can be started: it ended with status 1"):
            case.media.wait_until_ready()
        assert isinstance(case.scanned("en_00.wav").error, Unavailable)


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (
            "def fail(): raise TypeError('open() takes no such argument')",
            "TypeError('open() takes no such argument')",
        ),
        ("def fail(): import no_such_library", "ModuleNotFoundError(\"No module named 'no_such_library'\")"),
        ("def fail(): import os; os.abort()", "it was ended by SIGABRT"),
    ],
    ids=["an argument", "a library", "a crash"],
)
def test_an_error_at_start_is_quoted_as_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, cause: str
) -> None:
    (tmp_path / "failing_mediaworker.py").write_text(
        f"from server.audio.fork_server import main\n{program}\nmain(fail)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with opened("failing_mediaworker") as case, pytest.raises(Unavailable) as caught:
        case.media.wait_until_ready()
    assert str(caught.value) == f"Audio can't be decoded at the moment: no media worker can be started: {cause}."


def no_more_files(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    "what", ["socket.socketpair", "server.audio.workers.ChildProcess"], ids=["a channel", "a parent"]
)
def test_no_file_left_to_open_is_no_fault_of_the_recording_and_passes(
    shared_case: Case, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    os.kill(shared_case.workers.pid, signal.SIGKILL)
    wait_until(lambda: not shared_case.media.is_ready)
    with monkeypatch.context() as patch:
        patch.setattr(what, no_more_files)
        for _ in range(2):
            error = shared_case.scanned("en_00.wav").error
            assert isinstance(error, Unavailable)
            assert str(error) == "Audio can't be decoded at the moment: Too many open files."
    assert shared_case.scanned("en_00.wav").error is None


def test_only_one_caller_waits_for_a_starting_fork_server(shared_case: Case) -> None:
    with shared_case.workers._lock, pytest.raises(Unavailable, match="media workers are starting"):
        shared_case.media.wait_until_ready()
    shared_case.media.wait_until_ready()


def test_the_fork_server_has_one_thread_and_low_priority(shared_case: Case) -> None:
    shared_case.media.wait_until_ready()
    assert len(list(Path(f"/proc/{shared_case.workers.pid}/task").iterdir())) == 1
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, shared_case.workers.pid) == min(ours + 5, 19)
    assert int(Path(f"/proc/{shared_case.workers.pid}/oom_score_adj").read_text()) >= 500


def test_a_worker_has_its_three_files_and_no_other(shared_case: Case) -> None:
    seen: list[str] = []
    looked = threading.Event()

    def look(_: Window) -> None:
        (pid,) = children_of(shared_case.workers.pid)
        seen.extend(os.readlink(file) for file in sorted(Path(f"/proc/{pid}/fd").iterdir()))
        looked.set()

    with upload(b"!sleep") as source:
        recording = shared_case.media.open(source, EVERYTHING, on_window=look)
        assert looked.wait(DEADLINE_S)
        recording.close()
        recording.finished.exception(DEADLINE_S)
    assert seen[:3] == ["/dev/null"] * 3
    assert len(seen) == 6
    assert seen[3].startswith("socket:")
    assert all(name.endswith("(deleted)") for name in seen[4:])


def test_a_compromised_worker_reaches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("SOTTO_API_KEYS", "HF_TOKEN"):
        monkeypatch.setenv(name, "sk-secret")
    secret = tmp_path / "secret.wav"
    secret.write_bytes(b"secret")
    with opened() as case, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        asked = {"path": str(secret), "port": listener.getsockname()[1], "process": os.getpid()}
        error = case.scanned(f"!break-out {json.dumps(asked)}".encode()).error
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(error, UndecodableAudio)
    allowed = {"fork"} if os.getuid() == 0 else set()  # no limit of processes holds for root
    allowed |= {"unlink"} if landlock_version() < 1 else set()
    allowed |= {"signal"} if landlock_version() < 6 else set()
    assert set(re.findall(r"'(\w+)'", error.detail)) <= allowed
    assert secret.read_bytes() == b"secret"


@pytest.mark.parametrize("victim", ["the server", "the fork server"])
def test_no_worker_outlives_what_is_above_it(victim: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, "!stick"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        os.kill(parent.pid if victim == "the server" else pids[0], signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)))
        parent.kill()


def test_there_are_never_more_workers_than_configured(shared_case: Case) -> None:
    living: list[int] = []

    def count(_: Window) -> None:
        living.append(len(children_of(shared_case.workers.pid)))

    with ExitStack() as stack:
        sources = [stack.enter_context(upload(tone(2.0))) for _ in range(9)]
        recordings = [shared_case.media.open(source, EVERYTHING, on_window=count) for source in sources]
        assert [recording.finished.result(DEADLINE_S) for recording in recordings] == [2.0] * 9
        for recording in recordings:
            recording.close()
    assert max(living) <= 3
