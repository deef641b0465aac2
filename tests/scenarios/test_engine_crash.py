"""What must not hurt anybody: an engine's process that is killed, stopped or broken, on a real server."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.gate.gate import Gate
from server.engine.supervisor import SupervisedEngine
from server.settings import Settings
from server.system.machine import children_of
from tests.support.bad_inputs import DATA
from tests.support.fakes import DEADLINE_S, make_media, wait_until
from tests.support.hosted import QUICK, FakeLoader, kill, supervised
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS, Running, serving

SPEECH = "en_02.wav"
TEXT = "The party ends at eight."
CLIENTS = 20
GROWTH_MB = 100
ROUNDS = [3, pytest.param(20, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.soak)]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Running]:
    with serving() as running:
        yield running


@contextmanager
def unaffected(server: Running, what: str, rounds: int) -> Iterator[None]:
    """Memory is as before, in the end. With -s, it prints its figures."""
    before_mb, began = server.resident_mb(), time.monotonic()
    yield
    after_mb, took_s = server.resident_mb(), time.monotonic() - began
    print(f"\n{what} killed {rounds} times, {rounds * CLIENTS} requests answered in {took_s:.0f} s")
    print(f"memory of the main process: {before_mb:.0f} MB before, {after_mb:.0f} MB after")
    assert after_mb < before_mb + GROWTH_MB


@contextmanager
def clients_unaffected(server: Running) -> Iterator[None]:
    """While many ask at once; and one more does behind them."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(server.transcribe, SPEECH) for _ in range(CLIENTS)]
        yield
    assert [answer.result().status_code for answer in answers] == [200] * CLIENTS
    assert {answer.result().json()["text"] for answer in answers} == {TEXT}
    assert server.transcribe(SPEECH).json()["text"] == TEXT


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_engine_that_is_killed_under_load_costs_no_request(own_server: Running, rounds: int) -> None:
    with unaffected(own_server, "engine", rounds):
        for _ in range(rounds):
            own_server.wait_until_model_runs()
            with clients_unaffected(own_server):
                own_server.wait_until_busy()
                (engine,) = own_server.engines()
                os.kill(engine, signal.SIGKILL)
            assert own_server.engines() != [engine]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("rounds", ROUNDS)
def test_media_process_that_is_killed_under_load_costs_no_request(own_server: Running, rounds: int) -> None:
    """In turns a worker and the process that all of them come from."""
    with unaffected(own_server, "media process", rounds):
        for number in range(rounds):
            with clients_unaffected(own_server):
                (parent,) = own_server.children("server.audio.fork_server")
                wait_until(lambda: bool(children_of(parent)))  # noqa: B023 - it is called here
                for pid in [parent] if number % 2 else children_of(parent)[:1]:
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_engine_that_is_frozen_is_replaced(own_server: Running) -> None:
    own_server.wait_until_model_runs()
    (engine,) = own_server.engines()
    os.kill(engine, signal.SIGSTOP)
    assert own_server.transcribe(SPEECH).json()["text"] == TEXT  # after a minute
    assert own_server.engines() != [engine]


def test_ready_brings_back_media_workers_that_are_gone() -> None:
    with serving() as server:
        (forker,) = server.children("server.audio.fork_server")
        os.kill(forker, signal.SIGKILL)
        wait_until(lambda: server.children("server.audio.fork_server") == [])
        # Not at once: a process has no command line any more a little before it counts as ended.
        wait_until(
            lambda: server.get("/ready").is_success and len(server.children("server.audio.fork_server")) == 1
        )
        assert server.transcribe(SPEECH).json()["text"] == TEXT


def test_a_server_whose_engine_cannot_restart_says_so_until_it_can(tmp_path: Path) -> None:
    recipe = FakeLoader(tmp_path)
    with supervised(recipe) as engine, TestClient(over(engine)) as client:
        assert client.get("/ready").json() == {"status": "ready", "model": "fake"}
        (tmp_path / "broken").write_text("the GPU is gone")
        kill(engine)
        wait_until(lambda: engine.stats().state == "broken")

        refusal = client.get("/ready")
        assert refusal.status_code == 503
        assert refusal.json()["error"]["message"] == "The model 'fake' is not running: the GPU is gone"
        assert refusal.headers["retry-after"]
        assert client.get("/health").status_code == 200
        entry = client.get("/v1/models/fake").json()
        assert (entry["state"], entry["reason"]) == ("broken", refusal.json()["error"]["message"])
        answer = transcribed(client)
        assert (answer.status_code, answer.json()) == (503, refusal.json())

        (tmp_path / "broken").unlink()
        wait_until(lambda: client.get("/ready").status_code == 200)
        assert "reason" not in client.get("/v1/models/fake").json()
        assert transcribed(client).status_code == 200


def test_a_hanging_model_is_replaced_and_every_request_ends(tmp_path: Path) -> None:
    recipe = FakeLoader(tmp_path)
    patience = replace(QUICK, wedged_s=2.0, again_s=(0.5,))
    with supervised(recipe, patience) as engine, TestClient(over(engine)) as client, ThreadPoolExecutor() as pool:
        hung = pool.submit(transcribed, client, prompt="hang")
        wait_until(lambda: engine.stats().running == 1)
        behind = pool.submit(transcribed, client)
        wait_until(lambda: client.get("/ready").status_code == 503)
        assert behind.result(DEADLINE_S).status_code == 200
        assert hung.result(DEADLINE_S).status_code == 503
        assert "did not finish within 2 s" in hung.result().json()["error"]["message"]
        wait_until(lambda: client.get("/ready").status_code == 200)


def over(engine: SupervisedEngine) -> Gate:
    return create_app(Settings(), registry_of(served_model(engine, ("fake",), ("en",))), make_media())


def transcribed(client: TestClient, prompt: str = "") -> httpx2.Response:
    fields = {"model": "whisper-1", "language": "en", "prompt": prompt}
    return client.post(TRANSCRIPTIONS, data=fields, files={"file": (DATA / SPEECH).read_bytes()})
