"""Traces, sent to a collector that is stood in for; and none, nor what sends them, where nobody asks for them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.settings import Settings
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model
from tests.support.serving import serving

KEY = "sesame-0123456789abcdefghij"
SPEECH = "en_00.wav"
UNASKED = """
import sys
from server.api.app import create_app
from server.settings import Settings
from tests.support.fakes import make_media
from tests.support.registries import registry_of, served_model
from starlette.testclient import TestClient
from tests.support.fakes import FakeEngine
served = served_model(FakeEngine(), ("demo",), ("en",))
with TestClient(create_app(Settings(), registry_of(served), make_media())) as client:
    client.get("/v1/models")
sys.exit(any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in sys.modules))
"""


class Collector(BaseHTTPRequestHandler):
    """Keeps what is sent to it in its server's `bodies`."""

    server: Any

    def do_POST(self) -> None:
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def collecting() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Its address, and what it gets."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.bodies = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans_in(bodies: list[tuple[str, bytes]]) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests = [ExportTraceServiceRequest.FromString(body) for _, body in bodies]
    scopes = [scope for request in requests for each in request.resource_spans for scope in each.scope_spans]
    return [span for scope in scopes for span in scope.spans]


def test_requests_are_spans_with_an_id_and_a_model_and_nothing_that_is_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otel is not installed")
    with collecting() as (address, bodies):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "sotto-here")
        with serving(api_keys=KEY) as running:
            answer = running.transcribe(SPEECH, {"prompt": "Zanzibar"}, key=KEY)
            assert running.get("/v1/models/none", key=KEY).status_code == 404
            assert running.get("/ready").status_code == 200
    assert {path for path, _ in bodies} == {"/v1/traces"}
    spans = {span.name: {each.key: each.value for each in span.attributes} for span in spans_in(bodies)}
    assert sorted(spans) == ["GET /v1/models/{model}", "POST /v1/audio/transcriptions"]
    attributes = spans["POST /v1/audio/transcriptions"]
    assert attributes["sotto.request_id"].string_value == answer.headers["x-request-id"]
    assert attributes["sotto.model"].string_value == "demo"
    everything = b"".join(body for _, body in bodies)
    assert b"sotto-here" in everything
    for secret in (KEY.encode(), b"Zanzibar", *answer.json()["text"].encode().split()[:2]):
        assert secret not in everything


def test_without_a_collector_what_sends_traces_is_not_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", UNASKED], timeout=100, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_missing_extra_is_logged_and_the_server_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http._log_exporter", None)
    served = served_model(FakeEngine(), ("demo",), ("en",))
    with TestClient(create_app(Settings(), registry_of(served), make_media())) as client:
        assert client.get("/v1/models").status_code == 200
    assert "telemetry configuration failed" in caplog.text
