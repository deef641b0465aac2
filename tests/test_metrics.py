"""Engine statistics as Prometheus reads them."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from server.metrics import Metrics
from server.stats import Durations, EngineStats, Load

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
    memory_bytes=4096,
)
LOAD = Load(5, 2, 1000, 2000, 33.5, 12.5, {"requests": 3, "client": 4})


def samples() -> dict[tuple[str, str], float]:
    text = Metrics(lambda: {"demo": STATS}, lambda: LOAD).render().decode()
    return {
        (
            sample.name,
            sample.labels.get("class") or sample.labels.get("full") or sample.labels.get("le") or "",
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_series_is_documented() -> None:
    documented = (Path(__file__).parent.parent / "docs/operations.md").read_text("utf-8")
    for family in text_string_to_metric_families(Metrics(lambda: {"demo": STATS}, lambda: LOAD).render().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in documented


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
    assert read["sotto_engine_memory_bytes", ""] == 4096
    assert read["sotto_queued_windows", "interactive"] == 1
    assert read["sotto_queued_audio_seconds", "bulk"] == 55.5


def test_what_the_server_has_taken_on_has_series() -> None:
    read = samples()
    assert read["sotto_requests", ""] == 5
    assert read["sotto_uploads", ""] == 2
    assert read["sotto_upload_bytes", ""] == 1000
    assert read["sotto_spool_bytes", ""] == 2000
    assert read["sotto_audio_left_seconds", ""] == 33.5
    assert read["sotto_speed", ""] == 12.5
    assert read["sotto_refused_requests_total", "requests"] == 3
    assert read["sotto_refused_requests_total", "client"] == 4


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
    text = Metrics(lambda: {"demo": STATS}, lambda: LOAD).render().decode()
    assert 'sotto_engine_info{compute_type="int8",device="cpu",model="demo"} 1.0' in text
