"""All Prometheus series: those of finished requests are counted, the rest are computed on each scrape.

Knows only the statistics of engine and gate.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.monitoring.memory import GroupMemory, MemorySnapshot
from server.monitoring.request_metrics import RequestMetrics
from server.stats import EDGES_S, Durations, EngineStats, MediaStats, ModelCounters, ModelState, ServerLoad

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BATCH_SIZES = (1, 2, 4, 8, 16, 32)

GAUGES: dict[str, tuple[str, Callable[[EngineStats], float]]] = {
    "running_windows": ("Windows in the batches being decoded.", lambda stats: stats.running),
    "encoder_cache_bytes": (
        "Encoder outputs kept for windows that need another decoding step.",
        lambda s: s.cache_bytes,
    ),
    "engine_ready": ("1 while the model is ready.", lambda stats: float(stats.state == "ready")),
}
COUNTERS: dict[str, tuple[str, Callable[[EngineStats], float]]] = {
    "windows_done": ("Windows finished.", lambda stats: stats.done),
    "windows_failed": ("Windows that ended with an error.", lambda stats: stats.failed),
    "fallbacks": ("Decoding attempts that were repeated at a higher temperature.", lambda stats: stats.fallbacks),
    "engine_restarts": ("Restarts of the engine process.", lambda stats: stats.restarts),
}
LOAD_GAUGES: dict[str, tuple[str, Callable[[ServerLoad], float]]] = {
    "requests": ("Transcriptions in progress.", lambda load: load.requests),
    "uploads": ("Of these, those that are still being uploaded.", lambda load: load.uploads),
    "upload_bytes": ("Uploads on disk, including the part still to be received.", lambda load: load.upload_bytes),
    "spool_bytes": ("Decoded audio on disk.", lambda load: load.spool_bytes),
    "audio_left_seconds": ("Audio of all requests that is still to be transcribed.", lambda load: load.audio_s),
    "speed": ("Seconds of audio transcribed per second, over the last minutes with work.", lambda load: load.speed),
}
MODEL_COUNTERS: dict[str, tuple[str, Callable[[ModelCounters], float]]] = {
    "model_loads": ("Times a model was loaded.", lambda counters: counters.loads),
    "model_unloads": ("Times a model was unloaded.", lambda counters: counters.unloads),
    "model_evictions": ("Of these, those that made room for another model.", lambda counters: counters.evictions),
    "model_load_failures": ("Times a model could not be loaded.", lambda counters: counters.failures),
}
MEMORY_GAUGES: dict[str, tuple[str, Callable[[GroupMemory], float]]] = {
    "process_resident_bytes": ("Memory in RAM; shared pages count for each process.", lambda h: h.resident_bytes),
    "process_proportional_bytes": ("Memory in RAM, shared pages divided.", lambda held: held.proportional_bytes),
}
HISTOGRAMS: dict[str, tuple[str, Callable[[EngineStats], Durations]]] = {
    "wait_seconds": ("Time from a window's submission to its first batch.", lambda stats: stats.waits),
    "run_seconds": ("Time from a window's first batch to its result.", lambda stats: stats.runs),
}


class EngineCollector(Collector):
    """Exports the statistics of all engines, by model, as series."""

    def __init__(self, engines: Callable[[], Mapping[str, EngineStats]]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        engines = self._engines()
        for name, (text, value) in GAUGES.items():
            gauge = GaugeMetricFamily(f"sotto_{name}", text, labels=["model"])
            yield _filled(gauge, ((model, value(stats)) for model, stats in engines.items()))
        for name, (text, value) in COUNTERS.items():
            counter = CounterMetricFamily(f"sotto_{name}", text, labels=["model"])
            yield _filled(counter, ((model, value(stats)) for model, stats in engines.items()))
        for name, (text, durations) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(f"sotto_{name}", text, labels=["model"])
            for model, stats in engines.items():
                histogram.add_metric([model], _buckets(durations(stats)), durations(stats).sum_s)
            yield histogram
        yield from _queues(engines)
        yield _batches(engines)
        yield _info(engines)


class LoadCollector(Collector):
    """Exports the server's current load as series."""

    def __init__(self, load: Callable[[], ServerLoad]) -> None:
        self._load = load

    def collect(self) -> Iterator[Metric]:
        load = self._load()
        for name, (text, value) in LOAD_GAUGES.items():
            yield GaugeMetricFamily(f"sotto_{name}", text, value(load))
        text = "Requests rejected, by the limit that was reached."
        refused = CounterMetricFamily("sotto_refused_requests", text, labels=["full"])
        yield _filled(refused, load.refused.items())


class ModelsCollector(Collector):
    """Exports loads and unloads of models as series."""

    def __init__(self, models: Callable[[], Iterable[ModelState]]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        models = list(self._models())
        loaded = GaugeMetricFamily("sotto_model_loaded", "1 while a model is loaded.", labels=["model"])
        yield _filled(loaded, ((model.name, float(model.presence == "loaded")) for model in models))
        for name, (text, value) in MODEL_COUNTERS.items():
            counter = CounterMetricFamily(f"sotto_{name}", text, labels=["model"])
            yield _filled(counter, ((model.name, value(model.counters)) for model in models))


class MediaCollector(Collector):
    """Exports the outcomes of the media processes as series."""

    def __init__(self, media: Callable[[], MediaStats]) -> None:
        self._media = media

    def collect(self) -> Iterator[Metric]:
        text = "Media workers that ended before their file was decoded, by reason."
        ended = CounterMetricFamily("sotto_media_workers_ended", text, labels=["reason"])
        yield _filled(ended, self._media().ended.items())


class ReadingsCollector(Collector):
    """Exports the memory of processes and GPUs as series."""

    def __init__(self) -> None:
        self.readings = MemorySnapshot()

    def collect(self) -> Iterator[Metric]:
        for name, (text, value) in MEMORY_GAUGES.items():
            gauge = GaugeMetricFamily(f"sotto_{name}", text, labels=["process", "model"])
            for held in self.readings.processes:
                gauge.add_metric([held.group.kind, held.group.model], value(held))
            yield gauge
        used = GaugeMetricFamily("sotto_gpu_memory_used_bytes", "Used memory of a GPU.", labels=["gpu"])
        total = GaugeMetricFamily("sotto_gpu_memory_total_bytes", "Memory of a GPU.", labels=["gpu"])
        yield _filled(used, ((str(gpu.index), gpu.used_bytes) for gpu in self.readings.gpus))
        yield _filled(total, ((str(gpu.index), gpu.total_bytes) for gpu in self.readings.gpus))


class Metrics:
    """All series, in a registry of its own, so that two applications in one process don't collide."""

    def __init__(
        self,
        engines: Callable[[], Mapping[str, EngineStats]],
        load: Callable[[], ServerLoad],
        requests: RequestMetrics,
        media: Callable[[], MediaStats],
        models: Callable[[], Iterable[ModelState]],
    ) -> None:
        self._readings = ReadingsCollector()
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(engines))
        self._registry.register(LoadCollector(load))
        self._registry.register(requests)
        self._registry.register(MediaCollector(media))
        self._registry.register(ModelsCollector(models))
        self._registry.register(self._readings)

    def render(self, readings: MemorySnapshot) -> bytes:
        """Return all series, including `readings`, in Prometheus' text format."""
        self._readings.readings = readings
        return generate_latest(self._registry)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: Iterable[tuple[str, float]]
) -> CounterMetricFamily | GaugeMetricFamily:
    """Return `family` with a series added for each value of its one label."""
    for label, value in values:
        family.add_metric([label], value)
    return family


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    edges = [*map(str, EDGES_S), "+Inf"]
    return [(edge, float(count)) for edge, count in zip(edges, accumulate(durations.counts), strict=True)]


def _queues(engines: Mapping[str, EngineStats]) -> Iterator[Metric]:
    windows = GaugeMetricFamily("sotto_queued_windows", "Waiting windows.", labels=["model", "class"])
    seconds = GaugeMetricFamily("sotto_queued_audio_seconds", "Waiting audio.", labels=["model", "class"])
    for model, stats in engines.items():
        for priority, count in stats.queued_by_class.items():
            windows.add_metric([model, priority], count)
        for priority, waiting_s in stats.queued_audio_s.items():
            seconds.add_metric([model, priority], waiting_s)
    yield windows
    yield seconds


def _batches(engines: Mapping[str, EngineStats]) -> Metric:
    sizes = HistogramMetricFamily("sotto_batch_windows", "Windows per batch.", labels=["model"])
    for model, stats in engines.items():
        counted = stats.batch_sizes.items()
        buckets = [(str(edge), float(sum(n for size, n in counted if size <= edge))) for edge in BATCH_SIZES]
        buckets.append(("+Inf", float(sum(stats.batch_sizes.values()))))
        sizes.add_metric([model], buckets, float(sum(size * n for size, n in counted)))
    return sizes


def _info(engines: Mapping[str, EngineStats]) -> Metric:
    info = InfoMetricFamily("sotto_engine", "Device and compute type of a model.", labels=["model"])
    for model, stats in engines.items():
        info.add_metric([model], {"device": stats.device, "compute_type": stats.compute_type})
    return info
