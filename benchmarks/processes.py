"""A real server process, what it costs according to /proc, and the recordings that benchmarks send to it.

Linux only. Everything counts the server's whole process tree.
"""

import os
import re
import subprocess
import sys
import wave
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import av
import httpx2

from server.audio.decode import open_audio
from server.transcript import SAMPLE_BYTES, SAMPLE_RATE
from tests.support.bad_inputs import DATA

ROOT = Path(__file__).parents[1]
SPEECH = DATA / "two_minutes.mp3"
CHUNK_FRAMES = 8  # of 576 samples each: voice detection hears 512 samples at once, so that is nine of its steps
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_S = 60


@dataclass(frozen=True, slots=True)
class Memory:
    """MB. `pss` shares out what processes have in common; `peak_rss` is since `ServerProcess.reset_peak`."""

    rss: float
    pss: float
    peak_rss: float


class ServerProcess:
    """`sotto serve` on a free port, ready when constructed; its temporary files are in `folder`.

    `checkout` is the one whose server it is; another than this one is run by the Python of its own `.venv`.
    """

    def __init__(self, folder: Path, model: str = "demo", *, checkout: Path = ROOT, **settings: str) -> None:
        chosen = {f"SOTTO_{name.upper()}": value for name, value in settings.items()}
        chosen |= {"SOTTO_PORT": "0", "SOTTO_MODEL": model, "SOTTO_OFFLINE": "1", "TMPDIR": str(folder)}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SOTTO_")}
        self.began = perf_counter()
        with (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [python_of(checkout), "-m", "server", "serve"],
                cwd=checkout,
                env=inherited | chosen,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = self._ready()
        self.ready_s = perf_counter() - self.began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _ready(self) -> str:
        assert self._process.stdout
        for line in self._process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                return found[0]
        raise RuntimeError("the server did not start; its log is in the working folder")

    def tree(self) -> list[int]:
        """The process and all below it."""
        found = [self._process.pid]
        for pid in found:  # grows on the way
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, _read(children).split())
        return found

    def cpu_s(self) -> float:
        """CPU time so far, children that have ended included."""
        ticks = 0
        for pid in self.tree():
            fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
        return ticks / TICKS_PER_S

    def memory(self) -> Memory:
        tree = self.tree()
        return Memory(
            rss=sum(field_mb(pid, "status", "VmRSS") for pid in tree),
            pss=sum(field_mb(pid, "smaps_rollup", "Pss") for pid in tree),
            peak_rss=sum(field_mb(pid, "status", "VmHWM") for pid in tree),
        )

    def reset_peak(self) -> None:
        for pid in self.tree():
            with suppress(FileNotFoundError, ProcessLookupError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")  # see proc_pid_clear_refs(5)

    def hidden_bytes(self) -> int:
        """What open files hold that no path leads to: uploads and spools."""
        sizes: dict[tuple[int, int], int] = {}
        for pid in self.tree():
            folder = Path(f"/proc/{pid}/fd")
            for link in folder.iterdir() if folder.exists() else ():
                try:
                    if os.readlink(link).endswith("(deleted)"):
                        status = link.stat()
                        sizes[status.st_dev, status.st_ino] = status.st_size
                except FileNotFoundError:  # closed meanwhile
                    continue
        return sum(sizes.values())


def python_of(checkout: Path) -> str:
    """The interpreter that has a checkout's dependencies."""
    return sys.executable if checkout == ROOT else str(checkout / ".venv" / "bin" / "python")


def field_mb(pid: int, file: str, field: str) -> float:
    """A field of /proc/`pid`/`file`; 0 where the process is gone: media workers come and go."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", _read(Path(f"/proc/{pid}/{file}")), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _read(file: Path) -> str:
    """What is in a process's file; nothing where the process is gone."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def transcribe(client: httpx2.Client, server: ServerProcess, path: Path, *, words: bool = False) -> dict[str, Any]:
    """The server's verbose_json for a recording."""
    fields: dict[str, Any] = {"model": "whisper-1", "response_format": "verbose_json"}
    fields["timestamp_granularities[]"] = ["segment", "word"] if words else ["segment"]
    with path.open("rb") as file:
        response = client.post(
            f"{server.url}/v1/audio/transcriptions",
            data=fields,
            files={"file": (path.name, file, "application/octet-stream")},
            timeout=None,
        )
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def write_wav(path: Path, seconds: float) -> None:
    """The first `seconds` of speech as 16 kHz mono WAV."""
    with (
        SPEECH.open("rb") as file,
        open_audio(file, limit_s=float("inf")) as blocks,
        wave.open(str(path), "wb") as out,
    ):
        out.setnchannels(1)
        out.setsampwidth(SAMPLE_BYTES)
        out.setframerate(SAMPLE_RATE)
        left = round(seconds * SAMPLE_RATE)
        while left > 0:
            block = next(blocks)[:left]
            out.writeframes(block.tobytes())
            left -= len(block)


@dataclass(frozen=True, slots=True)
class Repeated:
    """A long MP3: one piece of speech, over and over. The pieces begin at the same step of voice detection."""

    path: Path
    pieces: int
    piece_s: float
    delay_s: float  # by which an MP3 encoder delays, and which only a header (left out here) would tell

    @property
    def duration_s(self) -> float:
        return self.pieces * self.piece_s


def write_repeated(path: Path, seconds: float) -> Repeated:
    """Joins encoded frames, without decoding any: an MP3 of hours takes a moment."""
    with av.open(str(SPEECH)) as container:
        (track,) = container.streams.audio
        packets = [packet for packet in container.demux(track) if packet.size]
        assert track.rate == SAMPLE_RATE
        assert track.time_base is not None
        delay_s = float((track.start_time or 0) * track.time_base)
        frame_s = float((packets[0].duration or 0) * track.time_base)
        frames = [bytes(packet) for packet in packets]
    del frames[len(frames) // CHUNK_FRAMES * CHUNK_FRAMES :]
    piece, piece_s = b"".join(frames), len(frames) * frame_s
    pieces = max(1, round(seconds / piece_s))
    with path.open("wb") as output:
        for _ in range(pieces):
            output.write(piece)
    return Repeated(path, pieces, piece_s, delay_s)
