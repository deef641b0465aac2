"""When a stream's first words come, and what streaming costs.

    python -m benchmarks.bench_stream

Starts a real server process. Linux only. Recordings of several lengths begin with the same speech; beside them
stands its first window as a recording of its own. Rounds of what is compared take turns.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx2

from benchmarks.processes import ServerProcess, write_repeated, write_wav

MINUTES = (2, 10, 60)
WHOLE_MINUTES = 10  # of the recording that is transcribed to its end, as a stream and not
POLL_S = 0.05
DELTA = "transcript.text.delta"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures streams. Linux only.")
    parser.add_argument("--model", default="demo", help="name or folder (default: demo)")
    parser.add_argument("--language", default="", help="of the speech, which is English (default: detected)")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess(Path(folder), args.model) as server,
        httpx2.Client(timeout=None) as client,
    ):
        report(StreamClient(client, server.url, args.language), Path(folder), args.rounds)


class StreamClient:
    """A client that has no other requests under way."""

    def __init__(self, client: httpx2.Client, url: str, language: str) -> None:
        self._client = client
        self._url = url
        self._fields = {"model": "whisper-1", "language": language}

    def lines(self, path: Path, **fields: str) -> Generator[str]:
        """The answer's, as they come."""
        with (
            path.open("rb") as file,
            self._client.stream(
                "POST",
                f"{self._url}/v1/audio/transcriptions",
                data={**self._fields, **fields},
                files={"file": (path.name, file, "application/octet-stream")},
            ) as response,
        ):
            response.raise_for_status()
            yield from response.iter_lines()

    def whole(self, path: Path, **fields: str) -> None:
        for _ in self.lines(path, **fields):
            pass

    def first_delta(self, path: Path) -> None:
        with closing(self.lines(path, stream="true")) as lines:
            next(line for line in lines if DELTA in line)

    def first_window_s(self, path: Path) -> float:
        """How far into the recording its first window brings the text, s."""
        with closing(self.lines(path, stream="true", stream_events="progress")) as lines:
            next(line for line in lines if DELTA in line)
            event_line = next(line for line in lines if "sotto.progress" in line)
        return float(json.loads(event_line.removeprefix("data: "))["done_s"])

    def wait_until_idle(self) -> None:
        """Until the server has noticed that a client left."""
        while any(
            self._client.get(f"{self._url}/health").json()[f"{state}_windows"] for state in ("queued", "running")
        ):
            time.sleep(POLL_S)


def report(client: StreamClient, folder: Path, rounds: int) -> None:
    recordings = {minutes: write_repeated(folder / f"{minutes}.mp3", minutes * 60).path for minutes in MINUTES}
    long, window = recordings[WHOLE_MINUTES], folder / "window.wav"
    window_s = client.first_window_s(long)
    write_wav(window, window_s)
    runs: dict[str, Callable[[], None]] = {
        f"the first window alone ({window_s:.1f} s), json": partial(client.whole, window),
        **{
            f"{minutes} min, first delta": partial(client.first_delta, path) for minutes, path in recordings.items()
        },
        f"{WHOLE_MINUTES} min, stream to its end": partial(client.whole, long, stream="true"),
        f"{WHOLE_MINUTES} min, json": partial(client.whole, long),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            client.wait_until_idle()
            taken[name].append(seconds(run))
    for name, values in taken.items():
        print(f"{name}: {statistics.median(values):.3f} s (least {min(values):.3f}, most {max(values):.3f})")


def seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
