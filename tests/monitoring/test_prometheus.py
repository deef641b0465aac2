"""Engine statistics as Prometheus reads them."""

import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from server.monitoring.access_log import AccessRecord
from server.monitoring.memory import Group, GroupMemory, MemorySnapshot
from server.monitoring.nvml import GpuMemory
from server.monitoring.prometheus import Metrics
from server.monitoring.request_metrics import RequestMetrics
from server.stats import EDGES_S, Durations, EngineStats, MediaStats, ModelCounters, ModelState, ServerLoad

STATS = EngineStats(
    queued=3,
    running=2,
    done=40,
    failed=1,
    batches=12,
    queued_by_class={"interactive": 1, "bulk": 2},
    queued_audio_s={"interactive": 5.0, "bulk": 55.5},
    batch_sizes={1: 5, 3: 4, 8: 3},
    fallbacks=7,
    waits=Durations().plus(0.5).plus(0.01).plus(1000.0),
    runs=Durations().plus(9.25),
    cache_bytes=1024,
    device="cpu",
    compute_type="int8",
    state="restarting",
    restarts=2,
)
ACCESS = AccessRecord(
    client="127.0.0.1",
    key="",
    method="POST",
    path="/audio/transcriptions",
    route="/v1/audio/transcriptions",
    status=200,
    ended="completed",
    why="",
    total_s=2.0,
    in_bytes=1000,
    out_bytes=100,
    model="demo",
    audio_s=12.0,
    done_s=11.0,
    wait_s=0.25,
    run_s=1.5,
)
REQUESTS = RequestMetrics()
REQUESTS.add(ACCESS)
LOAD = ServerLoad(5, 2, 1000, 2000, 33.5, 12.5, {"requests": 3, "client": 4})


MEDIA = MediaStats((7, 8), {"crashed": 2, "stalled": 1})
MODELS = [
    ModelState(
        ("demo", "alias"), "loaded", Path(), 1, (), 0, counters=ModelCounters(loads=3, unloads=2, evictions=1)
    ),
    ModelState(("small",), "broken", Path(), 1, (), 0, counters=ModelCounters(failures=4)),
]
READINGS = MemorySnapshot(
    (GroupMemory(Group("main", "", (1,)), 1000, 900), GroupMemory(Group("engine", "demo", (2,)), 5000, 4000)),
    (GpuMemory(0, 3 << 30, 24 << 30),),
)


def written(requests: RequestMetrics = REQUESTS) -> str:
    metrics = Metrics(lambda: {"demo": STATS}, lambda: LOAD, requests, lambda: MEDIA, lambda: MODELS)
    return metrics.render(READINGS).decode()


def samples() -> dict[tuple[str, str], float]:
    text = written()
    return {
        (
            sample.name,
            sample.labels.get("class") or sample.labels.get("full") or sample.labels.get("le") or "",
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def names() -> set[str]:
    families = text_string_to_metric_families(written())
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def test_the_documented_series_are_those_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "docs/monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| (`sotto_.*?) \|", text, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(sotto_\w+)`", row)]
    assert sorted(documented) == sorted(names())


def test_names_and_units_are_those_that_prometheus_asks_for() -> None:
    for family in text_string_to_metric_families(written()):
        assert re.fullmatch(r"sotto_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        assert not re.search(r"milliseconds|_ms|_mb|_kb|minutes|percent", family.name)


def test_every_statistic_has_a_series() -> None:
    read = samples()
    assert read["sotto_running_windows", ""] == 2
    assert read["sotto_windows_done_total", ""] == 40
    assert read["sotto_windows_failed_total", ""] == 1
    assert read["sotto_fallbacks_total", ""] == 7
    assert read["sotto_run_seconds_sum", ""] == 9.25
    assert read["sotto_encoder_cache_bytes", ""] == 1024
    assert read["sotto_engine_ready", ""] == 0
    assert read["sotto_engine_restarts_total", ""] == 2
    assert read["sotto_queued_windows", "interactive"] == 1
    assert read["sotto_queued_audio_seconds", "bulk"] == 55.5


def test_the_server_load_has_series() -> None:
    read = samples()
    assert read["sotto_requests", ""] == 5
    assert read["sotto_uploads", ""] == 2
    assert read["sotto_upload_bytes", ""] == 1000
    assert read["sotto_spool_bytes", ""] == 2000
    assert read["sotto_audio_left_seconds", ""] == 33.5
    assert read["sotto_speed", ""] == 12.5
    assert read["sotto_refused_requests_total", "requests"] == 3
    assert read["sotto_refused_requests_total", "client"] == 4


def test_requests_that_have_ended_have_series() -> None:
    text = written()
    labels = 'method="POST",model="demo",route="/v1/audio/transcriptions",status="200"'
    assert f"sotto_http_requests_total{{{labels}}} 1.0" in text
    read = samples()
    assert read["sotto_http_request_duration_seconds_bucket", "1.0"] == 0
    assert read["sotto_http_request_duration_seconds_bucket", "3.0"] == 1
    assert read["sotto_request_wait_seconds_sum", ""] == 0.25
    assert read["sotto_request_run_seconds_sum", ""] == 1.5
    assert read["sotto_audio_received_seconds_total", ""] == 12.0
    assert read["sotto_audio_done_seconds_total", ""] == 11.0


def test_a_series_has_its_values_and_no_time_of_its_creation() -> None:
    prefixes = ("sotto_http_", "sotto_audio_received_", "sotto_audio_done_")
    lines = [line for line in written().splitlines() if line.startswith(prefixes)]
    edges = [*map(str, EDGES_S), "+Inf"]
    labels = 'model="demo",route="/v1/audio/transcriptions"'
    assert lines == [
        f'sotto_http_requests_total{{method="POST",{labels},status="200"}} 1.0',
        *(
            f'sotto_http_request_duration_seconds_bucket{{le="{edge}",{labels}}} {float(float(edge) >= 2)}'
            for edge in edges
        ),
        f"sotto_http_request_duration_seconds_count{{{labels}}} 1.0",
        f"sotto_http_request_duration_seconds_sum{{{labels}}} 2.0",
        'sotto_audio_received_seconds_total{model="demo"} 12.0',
        'sotto_audio_done_seconds_total{model="demo"} 11.0',
    ]


def test_memory_and_workers_have_series() -> None:
    text = written()
    assert 'sotto_process_resident_bytes{model="demo",process="engine"} 5000.0' in text
    assert 'sotto_process_proportional_bytes{model="",process="main"} 900.0' in text
    assert 'sotto_gpu_memory_used_bytes{gpu="0"} 3.221225472e+09' in text
    assert 'sotto_media_workers_ended_total{reason="crashed"} 2.0' in text


def test_models_that_come_and_go_have_series() -> None:
    text = written()
    for line in [
        'sotto_model_loaded{model="demo"} 1.0',
        'sotto_model_loaded{model="small"} 0.0',
        'sotto_model_loads_total{model="demo"} 3.0',
        'sotto_model_unloads_total{model="demo"} 2.0',
        'sotto_model_evictions_total{model="demo"} 1.0',
        'sotto_model_load_failures_total{model="small"} 4.0',
    ]:
        assert f"\n{line}\n" in text


def test_no_client_makes_series_of_its_own() -> None:
    requests = RequestMetrics()
    for number in range(50):
        requests.add(
            replace(ACCESS, method=f"M{number}", path=f"/{number}", client=f"10.0.0.{number}", key=str(number))
        )
    assert (
        len([line for line in written(requests).splitlines() if line.startswith("sotto_http_requests_total{")]) == 1
    )


def test_batch_sizes_are_a_cumulative_histogram() -> None:
    read = samples()
    assert read["sotto_batch_windows_bucket", "1"] == 5
    assert read["sotto_batch_windows_bucket", "4"] == 9
    assert read["sotto_batch_windows_bucket", "+Inf"] == 12
    assert read["sotto_batch_windows_sum", ""] == 5 + 12 + 24


def test_durations_are_cumulative_histograms() -> None:
    read = samples()
    assert [read["sotto_wait_seconds_bucket", edge] for edge in ("0.01", "0.3", "1.0", "300.0", "+Inf")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert read["sotto_wait_seconds_sum", ""] == 1000.51
    assert read["sotto_wait_seconds_count", ""] == 3


def test_the_engine_says_where_it_runs() -> None:
    text = written()
    assert 'sotto_engine_info{compute_type="int8",device="cpu",model="demo"} 1.0' in text
