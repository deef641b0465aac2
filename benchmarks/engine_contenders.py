"""What `bench_engine` compares, each in a process of its own: allocator and instruction set are a process's.

`python -m benchmarks.engine_contenders NAME MODEL THREADS` answers lines of JSON: a method's name and its
arguments in; what the method returned, with the wall and CPU time it took, out.
"""

import asyncio
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speech_clips import clips, floats_of, window_of
from server.audio.media_decoder import MediaDecoder
from server.audio.scanner import Scanner
from server.engine.engine import Engine
from server.engine.limits import BatchLimits
from server.models.known_model import KnownModel
from server.options import DecodingOptions, Priority, TranscriptionOptions, UploadFd
from server.pool.served_model import ServedModel
from server.quota import Quota
from server.settings import Settings
from server.stats import EngineStats
from server.transcript import MAX_WINDOW_S, Window
from server.transcription.pipeline import Pipeline
from server.whisper.tuning import prepare_cpu
from tests.support.registries import registry_of

BATCH = 8  # what BatchedInferencePipeline takes by default
LONG = "long file"


class Stock:
    """faster-whisper as it is."""

    def __init__(self, model: Path, threads: int) -> None:
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        from tests.support.reference_audio import decode_audio

        self._model = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads)
        self._batched = BatchedInferencePipeline(self._model)
        self._decode = decode_audio
        self._lock = threading.Lock()

    def burst(self, count: int, seconds: float, beam: int) -> dict[str, Any]:
        """`count` requests at once, one after another for the lock."""
        with ThreadPoolExecutor(count) as pool:
            texts = set(pool.map(lambda clip: self._transcribe(floats_of(clip), beam), clips(count, seconds)))
        return {"texts": sorted(texts)}

    def _transcribe(self, audio: Any, beam: int) -> str:
        with self._lock:
            segments, _ = self._model.transcribe(audio, beam_size=beam)
            return "".join(segment.text for segment in segments)

    def file(self, path: str) -> dict[str, Any]:
        """Through BatchedInferencePipeline, which has neither fallback nor, by default, timestamps."""
        segments, _ = self._batched.transcribe(self._decode(Path(path)), batch_size=BATCH)
        return {"segments": len(list(segments))}

    def file_with_timestamps(self, path: str) -> dict[str, Any]:
        segments, _ = self._batched.transcribe(self._decode(Path(path)), batch_size=BATCH, without_timestamps=False)
        return {"segments": len(list(segments))}

    def windows(self, count: int) -> dict[str, Any]:
        """That many full windows, already cut."""
        (clip,) = clips(1, MAX_WINDOW_S)
        audio = np.tile(floats_of(clip), count)
        cut = [{"start": n * MAX_WINDOW_S, "end": (n + 1) * MAX_WINDOW_S} for n in range(count)]
        segments, _ = self._batched.transcribe(
            audio, language="en", batch_size=BATCH, vad_filter=False, clip_timestamps=cut
        )
        return {"segments": len(list(segments))}

    def close(self) -> dict[str, Any]:
        return {}


class Ours:
    """The engine with its defaults; the environment's SOTTO_ settings count."""

    def __init__(self, model: Path, threads: int) -> None:
        settings = Settings(model=str(model), offline=True)
        options = replace(settings.model_options("cpu"), threads=threads or settings.threads)
        before_mb = memory_mb("VmRSS")
        prepare_cpu(tune_allocator=settings.tune_allocator)
        from server.whisper.model import Whisper

        imported_mb = memory_mb("VmRSS")
        self._whisper = Whisper(model, options)
        self._memory = {"bare": before_mb, "imported": imported_mb, "loaded": memory_mb("VmRSS")}
        self._limits = BatchLimits.on("cpu", options)
        self._engine = Engine(self._whisper, self._limits)
        self._media = MediaDecoder(
            Scanner(), workers=1, spool=Quota.halved(settings.spool_bytes), max_audio_s=float("inf")
        )
        self._registry = registry_of(
            ServedModel(
                self._engine,
                KnownModel(("scripted",), languages=self._whisper.languages, mels=self._whisper.mels),
            )
        )

    def burst(self, count: int, seconds: float, beam: int) -> dict[str, Any]:
        """`count` requests at once."""
        options = DecodingOptions(beam_size=beam)
        before = self._engine.stats()
        windows = [window_of(clip) for clip in clips(count, seconds)]
        futures = [self._submit(window, options, str(n)) for n, window in enumerate(windows)]
        texts = {"".join(segment.text for segment in future.result().segments) for future in futures}
        sizes = batches_between(before, self._engine.stats())
        return {"texts": sorted(texts), "batches": sizes}

    def by_hand(self, count: int, seconds: float, beam: int) -> dict[str, Any]:
        """The same windows through the same model in full batches, without queue and futures."""
        options = DecodingOptions(beam_size=beam)
        windows = [window_of(clip) for clip in clips(count, seconds)]
        size = self._limits.interactive
        batches = [windows[start : start + size] for start in range(0, count, size)]
        with ThreadPoolExecutor(self._whisper.workers) as pool:
            texts = set().union(*pool.map(lambda batch: self._texts_of(batch, options), batches))
        return {"texts": sorted(texts)}

    def _texts_of(self, windows: Sequence[Window], options: DecodingOptions) -> set[str]:
        batch = [self._whisper.start(window, options) for window in windows]
        for one in batch:
            self._whisper.encode([one])
        self._whisper.detect(batch)
        self._whisper.generate(batch)
        results = [self._whisper.result(one) for one in batch]
        return {"".join(segment.text for segment in result.segments) for result in results}

    def steps(self, count: int, seconds: float, beam: int) -> dict[str, Any]:
        """CPU and wall milliseconds per window of each step, one batch of `count`: to find where time goes."""
        options = DecodingOptions(beam_size=beam)
        batch = [self._whisper.start(window_of(clip), options) for clip in clips(count, seconds)]
        taken: dict[str, float] = {}

        @contextmanager
        def step(name: str) -> Iterator[None]:
            cpu, wall = time.process_time(), time.perf_counter()
            yield
            taken[name] = 1000 * (time.process_time() - cpu) / count
            taken[f"{name} wall"] = 1000 * (time.perf_counter() - wall) / count

        with step("encode"):
            for one in batch:
                self._whisper.encode([one])
        with step("detect"):
            self._whisper.detect(batch)
        with step("generate"):
            self._whisper.generate(batch)
        with step("result"):
            for one in batch:
                self._whisper.result(one)
        return {"ms": taken}

    def file(self, path: str) -> dict[str, Any]:
        """From the file to its segments: decoding, voice detection, windows, timestamps, fallback."""
        before = self._engine.stats()
        duration_s, segments = asyncio.run(self._transcribe(Path(path)))
        after = self._engine.stats()
        return {
            "duration_s": duration_s,
            "segments": segments,
            "windows": after.done - before.done,
            "fallbacks": after.fallbacks - before.fallbacks,
            "batches": batches_between(before, after),
        }

    async def _transcribe(self, path: Path) -> tuple[float, int]:
        pipeline = Pipeline(self._media, self._registry)
        with path.open("rb") as file:
            source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, path.name)
            transcription = pipeline.transcribe(source, TranscriptionOptions())
            try:
                transcript = await transcription.result()
            finally:
                await transcription.close()
        return transcript.duration_s, len(transcript.segments)

    def windows(self, count: int) -> dict[str, Any]:
        """That many full windows of one long file, already cut, straight into the engine."""
        (clip,) = clips(1, MAX_WINDOW_S)
        options = DecodingOptions(language="en")
        futures = [self._submit(window_of(clip, n), options, LONG, "bulk") for n in range(count)]
        return {"segments": sum(len(future.result().segments) for future in futures)}

    def long_file(self, seconds: float) -> dict[str, Any]:
        """Windows per second of a long file that has the engine for itself."""
        with self._long_file() as done:
            first = _settled(done)
            time.sleep(seconds)
            return {"speed": _speed(done[first - 1 :])}

    def clips(self, count: int, seconds: float, every_s: float) -> dict[str, Any]:
        """Latencies of clips that come one by one."""
        return {"latencies": self._latencies(count, seconds, every_s)}

    def clips_beside_long_file(self, count: int, seconds: float, every_s: float) -> dict[str, Any]:
        """The same while a long file has more windows waiting than the engine takes at once."""
        with self._long_file() as done:
            first = _settled(done)
            began = time.perf_counter()
            latencies = self._latencies(count, seconds, every_s)
            period_s = time.perf_counter() - began
            return {"latencies": latencies, "period_s": period_s, "speed": _speed(done[first - 1 :])}

    def memory(self, count: int) -> dict[str, Any]:
        """MB: bare Python, libraries, the model; the peak with `count` windows in flight; after a minute's rest."""
        Path("/proc/self/clear_refs").write_text("5")  # see proc_pid_clear_refs(5): resets the peak
        self.windows(count)
        peak, after = memory_mb("VmHWM"), memory_mb("VmRSS")
        self._whisper.trim_memory()
        return {"mb": {**self._memory, "peak": peak, "after": after, "rested": memory_mb("VmRSS")}}

    def close(self) -> dict[str, Any]:
        self._engine.close()
        self._media.close()
        return {}

    def _submit(
        self, window: Window, options: DecodingOptions, request: str, priority: Priority = "interactive"
    ) -> Any:
        return self._engine.submit(window, options, request=request, priority=priority)

    def _latencies(self, count: int, seconds: float, every_s: float) -> list[float]:
        """Of `count` clips, each `every_s` seconds after the last or when that one is through."""
        options, taken = DecodingOptions(), []
        for number, clip in enumerate(clips(count, seconds)):
            began = time.perf_counter()
            self._submit(window_of(clip), options, str(number)).result()
            taken.append(time.perf_counter() - began)
            time.sleep(max(0.0, every_s - taken[-1]))
        return taken

    @contextmanager
    def _long_file(self) -> Iterator[list[float]]:
        """A file of any length, fed as the pipeline does; yields the times at which windows were through."""
        (clip,) = clips(1, MAX_WINDOW_S)
        options, room, ended = DecodingOptions(language="en"), threading.Semaphore(0), threading.Event()
        done: list[float] = []

        def count(_: object) -> None:
            done.append(time.perf_counter())
            room.release()

        def feed() -> None:
            while not ended.is_set():
                self._submit(window_of(clip), options, LONG, "bulk").add_done_callback(count)
                room.acquire()

        for _ in range(2 * self._engine.max_batch):
            room.release()
        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            yield done
        finally:
            ended.set()
            room.release()
            feeder.join()
            self._engine.cancel(LONG)
            while self._engine.stats().running:
                time.sleep(0.01)


def _settled(done: list[float]) -> int:
    """How many windows are through, once the first batch is."""
    while not done:
        time.sleep(0.01)
    time.sleep(0.1)
    return len(done)


def _speed(done: list[float]) -> float:
    """Windows per second, from the end of one batch to the end of another: a batch ends all at once."""
    return (len(done) - 1) / (done[-1] - done[0]) if len(done) > 1 else 0.0


def batches_between(before: EngineStats, after: EngineStats) -> dict[int, int]:
    """How many batches of which size."""
    counts = {size: count - before.batch_sizes.get(size, 0) for size, count in after.batch_sizes.items()}
    return {size: count for size, count in sorted(counts.items()) if count}


def memory_mb(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


CONTENDERS: dict[str, Callable[[Path, int], Any]] = {"stock": Stock, "ours": Ours}


def main() -> None:
    name, model, threads = sys.argv[1:]
    contender = CONTENDERS[name](Path(model), int(threads))
    for line in sys.stdin:
        method, arguments = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        answer = getattr(contender, method)(**arguments)
        taken = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        print(json.dumps(answer | taken), flush=True)


if __name__ == "__main__":
    main()
