"""Models that come and go in a real server: on demand, when idle, to make room; and those that are broken."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.models.dimensions import read_dimensions
from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until
from tests.support.scripted import Script, build
from tests.support.serving import Running, serving
from tests.support.wire import Connection, field, file, form

SPEECH = "en_02.wav"
TEXTS = {"one": "Hello from the first model.", "two": "Greetings from the second one."}
ADMIN = "an-admin-key-0123456789abcdef"
MIB = 1 << 20


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that say different things."""
    folder = tmp_path_factory.mktemp("models")
    for name, text in TEXTS.items():
        build(folder / name, script=Script(f" {text}", 2.0))
    return folder


@pytest.fixture
def server(models_dir: Path) -> Iterator[Running]:
    """One model is the default, the other is loaded on demand."""
    with serving(model="one", models_dir=models_dir, threads=1) as running:
        yield running


def transcribe(server: Running, model: str, **fields: str) -> httpx2.Response:
    return server.transcribe(SPEECH, {"model": model, "language": "en", **fields})


def entry(server: Running, model: str) -> dict[str, Any]:
    found: dict[str, Any] = server.get(f"/v1/models/{model}").json()
    return found


def state(server: Running, model: str) -> str:
    return str(entry(server, model)["state"])


def loads(server: Running, model: str) -> int:
    return len(re.findall(rf"\bloading model {model} ", server.log))


def resident_mib(server: Running) -> float:
    """Of the server and the processes of its models."""
    pages = (
        int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [server.process.pid, *server.engines()]
    )
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / MIB


def need_mib(models_dir: Path) -> float:
    """What one of the models is estimated to take."""
    dimensions = read_dimensions(models_dir / "one" / "model.bin")
    assert dimensions
    return dimensions.estimated_bytes("int8", batch=8, beam_size=5) / MIB


def test_a_model_is_loaded_on_demand_and_gives_its_memory_back(server: Running) -> None:
    assert (state(server, "one"), state(server, "two")) == ("loaded", "available")
    assert entry(server, "two")["size"] > MIB
    assert "en" in entry(server, "two")["languages"]
    assert len(server.engines()) == 1
    assert transcribe(server, "whisper-1").json()["text"] == TEXTS["one"]
    alone = resident_mib(server)

    assert transcribe(server, "two").json()["text"] == TEXTS["two"]
    assert (state(server, "one"), state(server, "two")) == ("loaded", "loaded")
    assert transcribe(server, "one").json()["text"] == TEXTS["one"]
    assert len(server.engines()) == 2
    both = resident_mib(server)

    assert transcribe(server, "two", keep_alive="0").json()["text"] == TEXTS["two"]
    wait_until(lambda: len(server.engines()) == 1)
    after = resident_mib(server)
    print(f"resident: {alone:.0f} MiB with one model, {both:.0f} with two, {after:.0f} when one is unloaded")
    assert state(server, "two") == "available"
    assert both - alone > 50
    assert after - alone < (both - alone) / 4
    assert loads(server, "two") == 1


def test_an_idle_model_is_unloaded_by_itself_and_the_server_stays_ready(models_dir: Path) -> None:
    with serving(model="one", models_dir=models_dir, threads=1, keep_alive="1s") as server:
        assert transcribe(server, "one").json()["text"] == TEXTS["one"]
        wait_until(lambda: not server.engines())
        assert server.get("/ready").status_code == 200
        assert server.get("/health").json()["model"] == "one"
        assert transcribe(server, "whisper-1").json()["text"] == TEXTS["one"]


def test_the_least_recently_used_model_is_evicted_under_load(models_dir: Path) -> None:
    budget = round(1.5 * need_mib(models_dir))
    with serving(model="one", models_dir=models_dir, threads=1, memory_budget_mb=budget) as server:
        for model in ("two", "one", "two"):
            assert transcribe(server, model).json()["text"] == TEXTS[model]
            assert len(server.engines()) == 1
            assert state(server, model) == "loaded"
        assert "unloading model two to make room for one" in server.log


def test_a_burst_on_a_cold_model_loads_it_once(server: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: transcribe(server, "two"), range(8)))
    assert {answer.json().get("text") for answer in answers} == {TEXTS["two"]}
    assert loads(server, "two") == 1
    assert len(server.engines()) == 2


def test_while_a_model_is_loaded_others_are_served_and_a_client_that_leaves_frees_its_place(
    server: Running,
) -> None:
    body = form(field("model", "two"), field("language", "en"), file((DATA / SPEECH).read_bytes()))
    before = server.engines()
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body))})
        connection.send(body)
        wait_until(lambda: len(server.engines()) == 2)
        (loading,) = set(server.engines()) - set(before)
        os.kill(loading, signal.SIGSTOP)
        try:
            assert server.get("/health").status_code == 200
            assert server.get("/ready").status_code == 200
            assert state(server, "two") in ("loading", "loaded")
            assert transcribe(server, "one").json()["text"] == TEXTS["one"]
            assert server.metric("sotto_requests") == 1
            connection.socket.close()
            wait_until(lambda: server.metric("sotto_requests") == 0)
        finally:
            os.kill(loading, signal.SIGCONT)
    wait_until(lambda: state(server, "two") == "loaded")
    assert transcribe(server, "two").json()["text"] == TEXTS["two"]
    assert loads(server, "two") == 1


def test_a_model_in_use_is_not_unloaded_unless_the_operator_waits(models_dir: Path) -> None:
    with serving(model="one", models_dir=models_dir, threads=1, admin_keys=ADMIN) as server:
        admin = httpx2.Client(
            base_url=server.base_url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=100, trust_env=False
        )
        with admin, Connection(server.base_url) as connection, ThreadPoolExecutor(1) as pool:
            (engine,) = server.engines()
            os.kill(engine, signal.SIGSTOP)
            try:
                body = form(field("model", "one"), field("language", "en"), file((DATA / SPEECH).read_bytes()))
                connection.send_head({"Content-Length": str(len(body)), "Authorization": f"Bearer {ADMIN}"})
                connection.send(body)
                wait_until(lambda: server.queue()[0] > 0)
                refusal = admin.delete("/api/ps/one")
                assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "model_busy")
                waiting = pool.submit(admin.delete, "/api/ps/one?wait=true")
                assert server.engines() == [engine]
            finally:
                os.kill(engine, signal.SIGCONT)
            assert connection.answer().json()["text"] == TEXTS["one"]
            assert waiting.result().status_code == 200
            assert server.engines() == []


def test_a_broken_model_is_reported_alone_and_retried_once_repaired(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(models_dir / "one")
    broken = build(tmp_path / "cut", script=Script(f" {TEXTS['two']}", 2.0))
    whole = (broken / "model.bin").read_bytes()
    (broken / "model.bin").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.bin").write_bytes(whole)
    with serving(model="one", models_dir=tmp_path, threads=1) as server:
        assert (state(server, "half"), state(server, "cut")) == ("broken", "available")
        assert "lacks" in entry(server, "half")["reason"]
        for _ in range(2):
            refusal = transcribe(server, "cut")
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "model_broken")
            assert refusal.headers["x-should-retry"] == "false"
        assert loads(server, "cut") == 1
        assert state(server, "cut") == "broken"
        assert entry(server, "cut")["reason"] in refusal.json()["error"]["message"]
        assert "The model 'cut' can't be loaded" in server.log
        assert transcribe(server, "half").status_code == 503
        assert transcribe(server, "one").json()["text"] == TEXTS["one"]
        assert len(server.engines()) == 1

        (broken / "model.bin").write_bytes(whole)
        assert transcribe(server, "cut").json()["text"] == TEXTS["two"]
        assert "reason" not in entry(server, "cut")


def test_a_model_that_is_put_in_place_can_be_named_without_a_restart(models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(models_dir / "one")
    with serving(model="one", models_dir=tmp_path, threads=1) as server:
        assert transcribe(server, "two").status_code == 404
        assert transcribe(server, str(models_dir / "two")).status_code == 404
        assert transcribe(server, "../two").status_code == 404
        (tmp_path / "two").symlink_to(models_dir / "two")
        wait_until(lambda: transcribe(server, "two").status_code == 200)
        assert transcribe(server, str(models_dir / "two")).status_code == 404
        (tmp_path / "two").unlink()
        wait_until(lambda: transcribe(server, "two").status_code == 404)
        wait_until(lambda: len(server.engines()) == 1)


def test_models_to_preload_are_there_from_the_start_and_stay(models_dir: Path) -> None:
    with serving(model="one", preload="two", models_dir=models_dir, threads=1) as server:
        assert (state(server, "one"), state(server, "two")) == ("loaded", "loaded")
        assert transcribe(server, "two").json()["text"] == TEXTS["two"]
