"""HTTP requests as Prometheus counters and histograms, kept in the main process. Independent of HTTP."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.monitoring.access_log import AccessRecord
from server.stats import EDGES_S

METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())


class RequestMetrics(Collector):
    """Counts requests when they end, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series each, which no dashboard uses
        self._registry = CollectorRegistry()
        self._requests = self._counter("http_requests", "Finished requests.", "route", "method", "status", "model")
        self._totals = self._histogram(
            "http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            "route",
            "model",
        )
        self._waits = self._histogram("request_wait_seconds", "Time until the model started on a request.", "model")
        self._runs = self._histogram(
            "request_run_seconds", "Time from there to the request's last result.", "model"
        )
        self._received_s = self._counter("audio_received_seconds", "Audio decoded for finished requests.", "model")
        self._done_s = self._counter("audio_done_seconds", "Audio transcribed for finished requests.", "model")

    def add(self, access: AccessRecord) -> None:
        model = access.model
        method = access.method if access.method in METHODS else ""  # else clients could create endless series
        self._requests.labels(access.route, method, access.status, model).inc()
        self._totals.labels(access.route, model).observe(access.total_s)
        if access.wait_s is not None:
            self._waits.labels(model).observe(access.wait_s)
        if access.run_s is not None:
            self._runs.labels(model).observe(access.run_s)
        if access.audio_s is not None:
            self._received_s.labels(model).inc(access.audio_s)
            self._done_s.labels(model).inc(access.done_s or 0.0)

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sotto_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"sotto_{name}", text, labels, registry=self._registry, buckets=EDGES_S)
