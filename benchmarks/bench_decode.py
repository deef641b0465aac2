"""What decoding costs: peak memory above idle and CPU time of a long MP3, beside faster-whisper's `decode_audio`.

    python -m benchmarks.bench_decode --hours 5

Every measurement runs in a fresh process. Linux only: the peak is read from /proc.
"""

import argparse
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.audio.decode import open_audio
from server.transcript import SAMPLE_RATE
from tests.support.bad_inputs import DATA, encode
from tests.support.reference_audio import decode_audio

PART_S = 600  # the length of the short file, and of the piece that the long one repeats
NO_HEADERS = {"write_xing": "0", "id3v2_version": "0"}  # so that copies joined end to end are one MP3


@dataclass(frozen=True)
class Cost:
    peak_mb: float  # above idle
    cpu_s: float
    wall_s: float
    audio_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures decoding: memory, CPU time, and faster-whisper's.")
    parser.add_argument("--hours", type=float, default=1.0, help="length of the long file (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="of the short file; the best counts (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder, "short.mp3"), Path(folder, "long.mp3")
        write_files(short, long, round(arguments.hours * 3600 / PART_S))
        ours, theirs = (
            min((measure(decoder, short) for _ in range(arguments.rounds)), key=lambda cost: cost.cpu_s)
            for decoder in (with_server, with_faster_whisper)
        )
        report("server.audio.decode", short, ours)
        report("decode_audio", short, theirs)
        print(f"ratio of CPU time: {ours.cpu_s / theirs.cpu_s:.2f}")
        report("server.audio.decode", long, measure(with_server, long))


def write_files(short: Path, long: Path, parts: int) -> None:
    with (DATA / "ten_minutes.ogg").open("rb") as file, open_audio(file, limit_s=2 * PART_S) as audio:
        sound = np.concatenate(list(audio))[: PART_S * SAMPLE_RATE]
    part = encode(np.stack((sound, sound)), "mp3", "libmp3lame", rate=44_100, layout="stereo", options=NO_HEADERS)
    short.write_bytes(part)
    with long.open("wb") as output:
        for _ in range(parts):
            output.write(part)


def with_server(path: Path) -> float:
    with path.open("rb") as file, open_audio(file, limit_s=float("inf")) as audio:
        return sum(map(len, audio)) / SAMPLE_RATE


def with_faster_whisper(path: Path) -> float:
    return len(decode_audio(path)) / SAMPLE_RATE


def measure(decoder: Callable[[Path], float], path: Path) -> Cost:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (decoder, path))


def _measured(decoder: Callable[[Path], float], path: Path) -> Cost:
    idle_mb = memory_mb("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    audio_s = decoder(path)
    return Cost(
        peak_mb=memory_mb("VmHWM") - idle_mb,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
        audio_s=audio_s,
    )


def memory_mb(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def report(name: str, path: Path, cost: Cost) -> None:
    print(
        f"{name}: {cost.audio_s / 3600:.2f} h of MP3, {path.stat().st_size / 1e6:.0f} MB: "
        f"peak {cost.peak_mb:.0f} MB above idle, {cost.cpu_s:.1f} s CPU, {cost.wall_s:.1f} s"
    )


if __name__ == "__main__":
    main()
