import re
import sys
import threading
import time

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server import __version__
from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until
from tests.support.serving import REQUEST_S, Running
from tests.support.wire import Connection, field, file, form

LONG = form(field("model", "whisper-1"), file((DATA / "ten_minutes.ogg").read_bytes()))
SHORT = "en_02.wav"
HEALTH_S = 5.0  # ten times the goal; measured: 1 to 83 ms with both of two cores busy


def test_health_reports_the_model_and_the_queue(server: Running) -> None:
    answer = server.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "version": __version__,
        "model": "demo",
        "queued_windows": 0,
        "running_windows": 0,
    }


class HealthChecks:
    """Asks for /health, over and over, in a thread; keeps the longest time that an answer took."""

    def __init__(self, server: Running) -> None:
        self.slowest_s = 0.0
        self.answers = 0
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "HealthChecks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx2.Client(base_url=self._server.base_url, trust_env=False, timeout=REQUEST_S) as client:
            while not self._stop.wait(0.01):
                began = time.monotonic()
                client.get("/health").raise_for_status()
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                self.answers += 1


def test_while_a_long_recording_is_transcribed_the_server_answers_and_short_ones_end(server: Running) -> None:
    with Connection(server.base_url) as connection:
        with HealthChecks(server) as checks:
            connection.send_head({"Content-Length": str(len(LONG))})
            connection.send(LONG)
            server.wait_until_busy()
            for _ in range(2):
                assert server.transcribe(SHORT, {"language": "en"}).json()["text"] == "The party ends at eight."
            queued, running = server.queue()
        assert queued + running > 0, "the long recording was through before the short ones"
        assert checks.answers > 10
        assert checks.slowest_s < HEALTH_S
    server.wait_until_idle()  # its client has gone


def test_metrics_count_what_was_done(server: Running) -> None:
    before = series(server)
    with (DATA / "en_00.wav").open("rb") as file:
        answer = httpx2.post(
            f"{server.base_url}/v1/audio/transcriptions",
            files={"file": file},
            data={"model": "whisper-1"},
            timeout=REQUEST_S,
        )
    assert answer.status_code == 200
    wait_until(lambda: series(server)["sotto_windows_done_total"] == before["sotto_windows_done_total"] + 1)
    assert series(server)["sotto_run_seconds_sum"] > before["sotto_run_seconds_sum"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_metrics_have_the_memory_of_every_process(server: Running) -> None:
    text = server.get("/metrics").text
    for process, model in [("main", ""), ("engine", "demo"), ("media", "")]:
        labels = f'{{model="{model}",process="{process}"}}'
        (resident,) = re.findall(rf"^sotto_process_resident_bytes{re.escape(labels)} (\S+)$", text, re.MULTILINE)
        (shared,) = re.findall(rf"^sotto_process_proportional_bytes{re.escape(labels)} (\S+)$", text, re.MULTILINE)
        assert 1 << 20 < float(shared) <= float(resident) < 1 << 32


def test_metrics_count_requests_by_route_and_status(server: Running) -> None:
    def counted() -> float:
        text = server.get("/metrics").text
        labels = 'method="GET",model="",route="/v1/models/{model:path}",status="404"'
        return sum(map(float, re.findall(rf"^sotto_http_requests_total{{{re.escape(labels)}}} (\S+)$", text, re.M)))

    before = counted()
    assert server.get("/v1/models/no-such-model").status_code == 404
    assert counted() == before + 1


def series(server: Running) -> dict[str, float]:
    """Series without labels but the model's."""
    answer = server.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if set(sample.labels) == {"model"}
    }
