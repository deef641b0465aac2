"""`sotto ps`, against answers that are made up; a real server's: tests/scenarios/test_admin_workflow.py."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from server.cli.main import run
from tests.support.fakes import taken_port

Json = dict[str, Any]
IDLE: Json = {
    "id": "demo",
    "state": "loaded",
    "reason": None,
    "device": "cpu",
    "compute_type": "int8",
    "memory_bytes": 312_400_000,
    "estimated_bytes": 300_000_000,
    "requests": 0,
    "queued_windows": 0,
    "running_windows": 0,
    "last_used": None,
    "expires_at": None,
}
BUSY = IDLE | {"id": "small", "requests": 2, "queued_windows": 7, "running_windows": 4, "last_used": 990}
RESTING = IDLE | {"id": "tiny", "last_used": 700, "expires_at": 1100}
LOADING = IDLE | {"id": "base", "state": "loading", "device": None, "compute_type": None, "memory_bytes": 0}
BROKEN = IDLE | {
    "id": "turbo",
    "state": "broken",
    "reason": "it was killed by SIGKILL",
    "last_used": 1000 - 3 * 3600,
}


class Server(HTTPServer):
    answer: bytes = b""
    status = 200
    keys: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server at the address that the settings name."""
    for name in ("SOTTO_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.keys = []
        monkeypatch.setenv("SOTTO_PORT", str(running.server_port))
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def answer_with(*models: Json) -> bytes:
    return json.dumps({"time": 1000, "models": models}).encode()


def test_table_has_a_line_for_each_model(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = answer_with(IDLE, BUSY, RESTING, LOADING, BROKEN)
    assert run(["ps"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "MODEL  STATE    DEVICE  TYPE  MEMORY    REQUESTS  QUEUE  LAST USE   UNLOADS IN",
        "demo   loaded   cpu     int8  312.4 MB  0         0      never      never",
        "small  loaded   cpu     int8  312.4 MB  2         11     10 s ago   in use",
        "tiny   loaded   cpu     int8  312.4 MB  0         0      5 min ago  100 s",
        "base   loading  -       -     -         0         0      never      never",
        "turbo  broken   cpu     int8  312.4 MB  0         0      3 h ago    never",
        "turbo: it was killed by SIGKILL",
    ]


def test_json_is_the_answer_of_the_server(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = answer_with(IDLE)
    assert run(["ps", "--json", "--server", f"http://127.0.0.1:{server.server_port}/v1/"]) == 0
    assert json.loads(capsys.readouterr().out) == {"time": 1000, "models": [IDLE]}


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": "theirs"}, "Bearer theirs"),
        ({"OPENAI_API_KEY": "theirs", "SOTTO_API_KEY": "ours"}, "Bearer ours"),
    ],
)
def test_the_key_comes_from_the_environment(
    variables: dict[str, str], sent: str | None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server.answer = answer_with()
    assert run(["ps"]) == 0
    assert server.keys == [sent]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"models": [{"name": "llama"}], "time": 0}'])
def test_other_servers_are_no_sotto(answer: bytes, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = answer
    assert run(["ps"]) == 1
    assert capsys.readouterr().err.endswith("does not respond like a Sotto server\n")


def test_an_error_of_the_server_is_shown(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.status, server.answer = 401, b'{"error": {"message": "Incorrect API key provided."}}'
    assert run(["ps"]) == 1
    assert capsys.readouterr().err == (
        "sotto: Incorrect API key provided. The key sent is that of SOTTO_API_KEY, or else OPENAI_API_KEY.\n"
    )


def test_an_unreachable_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as port:
        pass
    assert run(["ps", "--server", f"http://127.0.0.1:{port}"]) == 1
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().err


def test_port_zero_needs_the_servers_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOTTO_PORT", "0")
    assert run(["ps"]) == 2
    assert "--server" in capsys.readouterr().err
