"""Throughput by batch size on a GPU, memory per window, and BatchedInferencePipeline beside it.

    python -m benchmarks.gpu                                        turbo and large-v3, batches 1 to 32
    python -m benchmarks.gpu --device cpu --size micro --batches 1,2     checks the script itself

Models have real dimensions and a scripted answer of 100 tokens, built on the spot (large-v3 takes 20 GB of memory
for a minute). Each line of the table is a fresh process, for memory that CUDA has once taken is not given back.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_models import model_folder
from benchmarks.speech_clips import clips, floats_of, window_of
from server.engine.engine import Engine
from server.engine.limits import BatchLimits
from server.options import DecodingOptions, ModelOptions
from server.transcript import MAX_WINDOW_S
from server.whisper.tuning import prepare_cpu

ROOT = Path(__file__).parents[1]
TOKENS, END_S = 100, 28.0
SAMPLE_S = 0.02
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """One line: `contender` is engine, steps (without it) or batched (faster-whisper's pipeline)."""

    contender: str
    size: str
    device: str
    compute_type: str
    beam: int
    batch: int
    workers: int
    rounds: int


# In the process of a case


def engine(case: Case, model: Path) -> dict[str, Any]:
    """Windows of one long file through the engine: windows per second."""
    whisper = load(case, model)
    running = Engine(whisper, limits(case))
    windows, options = [window_of(clip, n) for n, clip in enumerate(sound(case))], decoding(case)

    def once() -> None:
        for future in [running.submit(window, options, request="file") for window in windows]:
            future.result()

    try:
        return measured(case, once, len(windows))
    finally:
        running.close()


def steps(case: Case, model: Path) -> dict[str, Any]:
    """Full batches through the model by hand, with the time of each step."""
    whisper = load(case, model)
    options, pieces = decoding(case), sound(case)
    batches = [pieces[start : start + case.batch] for start in range(0, len(pieces), case.batch)]
    taken: dict[str, list[float]] = {"encode": [], "generate": []}

    def transcribe_batch(batch: Sequence[Any]) -> None:
        states = [whisper.start(window_of(clip), options) for clip in batch]
        with timed(taken["encode"], len(batch)):
            # As the engine does: together where that costs nothing, else one by one for a smaller workspace.
            for part in [states] if limits(case).encode_together else [[one] for one in states]:
                whisper.encode(part)
        with timed(taken["generate"], len(batch)):
            whisper.generate(states)
        for one in states:
            whisper.result(one)

    def once() -> None:
        with ThreadPoolExecutor(case.workers) as pool:
            list(pool.map(transcribe_batch, batches))

    try:
        found = measured(case, once, len(pieces))
        return found | {f"{step}_ms": 1000 * statistics.median(values) for step, values in taken.items()}
    finally:
        whisper.close()


def batched(case: Case, model: Path) -> dict[str, Any]:
    """faster-whisper's BatchedInferencePipeline over the same windows, cut for it; it has one worker."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    name, _, index = case.device.partition(":")
    pipeline = BatchedInferencePipeline(
        WhisperModel(str(model), device=name, device_index=int(index or 0), compute_type=case.compute_type)
    )
    pieces = sound(case)
    audio = floats_of(np.concatenate(pieces))
    cut = [{"start": n * MAX_WINDOW_S, "end": (n + 1) * MAX_WINDOW_S} for n in range(len(pieces))]

    def once() -> None:
        segments, _ = pipeline.transcribe(
            audio,
            language="en",
            beam_size=case.beam,
            batch_size=case.batch,
            without_timestamps=False,
            vad_filter=False,
            clip_timestamps=cut,
        )
        list(segments)

    return measured(case, once, len(pieces))


CONTENDERS: dict[str, Callable[[Case, Path], dict[str, Any]]] = {
    "steps": steps,
    "engine": engine,
    "batched": batched,
}


def load(case: Case, model: Path) -> Any:
    prepare_cpu(tune_allocator=True)
    from server.whisper.model import Whisper

    return Whisper(model, ModelOptions(device=case.device, compute_type=case.compute_type, workers=case.workers))


def limits(case: Case) -> BatchLimits:
    return BatchLimits.on(case.device.partition(":")[0], ModelOptions(batch=case.batch, beam_size=case.beam))


def decoding(case: Case) -> DecodingOptions:
    return DecodingOptions(language="en", beam_size=case.beam)


def sound(case: Case) -> list[Any]:
    """Enough windows for two full batches of each worker."""
    return clips(2 * case.batch * case.workers, MAX_WINDOW_S)


def measured(case: Case, once: Callable[[], None], windows: int) -> dict[str, Any]:
    """Windows per second, median of the rounds after one that warms up; the most memory that was in use."""
    with peak_memory(case.device) as memory:
        once()
        speeds = []
        for _ in range(case.rounds):
            began = time.perf_counter()
            once()
            speeds.append(windows / (time.perf_counter() - began))
    loaded, peak = memory
    return {"speed": statistics.median(speeds), "loaded_mib": loaded, "peak_mib": peak}


@contextmanager
def timed(into: list[float], windows: int) -> Iterator[None]:
    began = time.perf_counter()
    yield
    into.append((time.perf_counter() - began) / windows)


@contextmanager
def peak_memory(device: str) -> Iterator[list[float | None]]:
    """MiB in use on the device: at first, and at most. None where NVIDIA's library is absent."""
    read = memory_reader(device)
    seen: list[float | None] = [read(), None]
    ended = threading.Event()

    def watch() -> None:
        while (used := read()) is not None:
            seen[1] = max(seen[1] or 0.0, used)
            if ended.wait(SAMPLE_S):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def memory_reader(device: str) -> Callable[[], float | None]:
    """Reads how many MiB are in use on the whole device, by NVML; other programs on it count too."""
    name, _, index = device.partition(":")
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return lambda: None
    handle, memory = ctypes.c_void_p(), _Memory()
    if (
        name == "cpu"
        or nvml.nvmlInit_v2()
        or nvml.nvmlDeviceGetHandleByIndex_v2(int(index or 0), ctypes.byref(handle))
    ):
        return lambda: None

    def read() -> float | None:
        failed = nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
        return None if failed else memory.used / MIB

    return read


# In the process that compares


def run(case: Case, model: Path) -> dict[str, Any]:
    """Measure `case` in a fresh process; what failed there, out of memory for one, is a line of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--case", json.dumps(asdict(case)), "--model", str(model)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cases(args: argparse.Namespace, size: str, beam: int) -> Iterator[Case]:
    for batch in args.batches:
        for contender, workers in (("steps", 1), ("steps", 2), ("engine", 1), ("engine", 2), ("batched", 1)):
            yield Case(contender, size, args.device, args.compute_type, beam, batch, workers, args.rounds)


def line(case: Case, found: dict[str, Any]) -> str:
    cells: list[object] = [case.size, case.beam, case.contender, case.workers, case.batch]
    if error := found.get("error"):
        return "| " + " | ".join(map(str, [*cells, error, "", "", "", ""])) + " |"
    loaded, peak = found["loaded_mib"], found["peak_mib"]
    per_window = None if peak is None else (peak - loaded) / (case.batch * case.workers)
    cells += [
        f"{found['speed']:.2f}",
        f"{found['encode_ms']:.1f}" if "encode_ms" in found else "",
        f"{found['generate_ms']:.1f}" if "generate_ms" in found else "",
        "" if peak is None else f"{loaded:.0f} / {peak:.0f}",
        "" if per_window is None else f"{per_window:.0f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


HEAD = (
    "| size | beam | contender | workers | batch | windows/s | encode, ms/window | generate, ms/window "
    "| MiB loaded / peak | MiB per window |\n" + "|---" * 10 + "|"
)


def compare(args: argparse.Namespace, cache: Path) -> None:
    quantization = "int8" if args.device == "cpu" else "float16"
    print(HEAD, flush=True)
    for size in args.size:
        model = model_folder(cache, size, tokens=TOKENS, end_s=END_S, quantization=quantization)
        for beam in args.beams:
            for case in cases(args, size, beam):
                print(line(case, run(case, model)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a GPU: throughput and memory by batch size.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--compute-type", default="", help="default: float16 on a GPU, int8 on a CPU")
    parser.add_argument("--size", type=names, default=["turbo", "large-v3"], help="default: turbo,large-v3")
    parser.add_argument("--batches", type=numbers, default=[1, 2, 4, 8, 16, 32], help="default: 1,2,4,8,16,32")
    parser.add_argument("--beams", type=numbers, default=[5, 1], help="default: 5,1")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--models", type=Path, help="keep the models that are built here (default: nowhere)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        case = Case(**json.loads(args.case))
        print(json.dumps(CONTENDERS[case.contender](case, args.model)))
        return
    args.compute_type = args.compute_type or ("int8" if args.device == "cpu" else "float16")
    with tempfile.TemporaryDirectory() as folder:
        compare(args, args.models or Path(folder))


def names(value: str) -> list[str]:
    return value.split(",")


def numbers(value: str) -> list[int]:
    return [int(part) for part in value.split(",")]


if __name__ == "__main__":
    main()
