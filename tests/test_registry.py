import subprocess
import sys
from pathlib import Path

import pytest

from server.engine import Engine
from server.errors import ModelNotFound, ModelUnavailable
from server.job import Limits
from server.machine import FORCE_ISA, resident_bytes
from server.options import DecodingOptions
from server.registry import Registry, load
from server.served import EngineLike, ServedModel
from server.settings import Settings
from server.supervise import Supervised
from server.whisper import Whisper
from tests.fakes import DEADLINE_S, FakeEngine, make_window, wait_until
from tests.hosted import pid


def served(*names: str, engine: EngineLike | None = None) -> ServedModel:
    return ServedModel(engine or FakeEngine(), names=names, languages=("en",))


TURBO = served("large-v3-turbo", "turbo", "openai/whisper-large-v3-turbo")
DEMO = served("demo", "Whisper-Demo")
REGISTRY = Registry(TURBO, DEMO)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("large-v3-turbo", TURBO),
        ("turbo", TURBO),
        ("TURBO", TURBO),
        (" turbo ", TURBO),
        ("openai/whisper-large-v3-turbo", TURBO),
        ("demo", DEMO),
        ("whisper-demo", DEMO),
        ("WHISPER-DEMO", DEMO),
    ],
)
def test_a_model_is_found_by_any_of_its_names_in_any_case(name: str, model: ServedModel) -> None:
    assert REGISTRY.find(name).served is model


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "whisper-1",
        "Whisper-1",
        "gpt-4o-transcribe",
        "GPT-4o-Transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-transcribe-2025-12-15",
        "gpt-transcribe",
        "gpt-4o-transcribe-diarize",
    ],
)
def test_no_name_and_those_of_the_cloud_mean_the_default_model(name: str) -> None:
    assert REGISTRY.find(name) is REGISTRY.default
    assert REGISTRY.default.served is TURBO


@pytest.mark.parametrize(
    "name",
    [
        "tiny",  # in the catalogue, but not installed
        "whisper-2",
        "gpt-4o",
        "my-gpt-4o-transcribe",
        "gpt-4o transcribe",
        "gpt-4o-transcribe\nx",
        "gpt-4o-transcribe/../demo",
        "Systran/faster-whisper-tiny",
        "models/demo",
        "./models/demo",
        "/",
        "~",
        "demo\0",
    ],
)
def test_any_other_name_is_refused_and_never_looked_for(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        REGISTRY.find(name)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert f"'{name}'" in caught.value.message
    for known in REGISTRY.ids():
        assert known in caught.value.message


@pytest.mark.timeout(20)
@pytest.mark.parametrize("fits", [True, False])
def test_name_of_a_megabyte_costs_no_time(fits: bool) -> None:
    name = "gpt-" + "transcribe" * 100_000 + ("" if fits else "!")
    if fits:
        assert REGISTRY.find(name) is REGISTRY.default
    else:
        with pytest.raises(ModelNotFound):
            REGISTRY.find(name)


def test_ids_are_all_names_and_those_of_the_cloud() -> None:
    assert REGISTRY.ids() == [*TURBO.names, *DEMO.names, "whisper-1"]
    assert all(REGISTRY.find(name) for name in REGISTRY.ids())


def test_a_model_is_called_by_its_first_name() -> None:
    assert TURBO.name == "large-v3-turbo"


def test_closing_closes_every_engine() -> None:
    engines = [FakeEngine(), FakeEngine()]
    Registry(*(served(f"model-{number}", engine=engine) for number, engine in enumerate(engines))).close()
    assert [engine.closed for engine in engines] == [True, True]


def test_the_bundled_model_is_loaded_under_its_names() -> None:
    registry = load(Settings(model="demo", device="cpu", offline=True))
    try:
        model = registry.default.served
        assert model
        assert model.names[0] == "demo"
        assert registry.find("whisper-1").served is model
        assert {"en", "de", "es"} <= set(model.languages)
        assert model.description == "demo, int8 on cpu"
        assert model.engine.stats().done == 0
    finally:
        registry.close()


def test_a_model_that_is_not_there_is_not_pulled_offline() -> None:
    with pytest.raises(ModelUnavailable, match="tiny"):
        load(Settings(model="tiny", models_dir="/nonexistent", offline=True))


def test_settings_reach_the_model_and_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE_ISA, "")  # so that it is restored, whatever loading sets
    monkeypatch.delenv(FORCE_ISA)
    settings = Settings(
        batch=3, bulk_batch=5, encoder_cache_mb=7, encoder_window="auto", prompt_bucket=16, workers=2, threads=1
    )
    registry = load(settings, in_process=True)
    try:
        served = registry.default.served
        assert served
        engine = served.engine
        assert isinstance(engine, Engine)
        model = engine._model
        assert isinstance(model, Whisper)
        assert engine._limits == Limits(3, 5, cache_bytes=7 << 20)
        assert (model.workers, model._prompt_bucket, model._dynamic_context) == (2, 16, True)
        assert (served.mels, served.window_s) == (80, 10.0)
    finally:
        registry.close()


HEAVY = "av ctranslate2 faster_whisper huggingface_hub onnxruntime tokenizers".split()
SERVER = """
import sys
import server.serve
from server.registry import load
from server.settings import Settings
registry = load(Settings(model="demo", offline=True))
registry.close()
print(*sys.modules)
"""


def test_a_server_itself_loads_no_model_and_no_codec() -> None:
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, timeout=100, check=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)
    assert "server.supervise" in done.stdout.split()


def test_the_memory_of_a_model_is_given_back_when_it_is_closed() -> None:
    before = resident_bytes()
    registry = load(Settings(model="demo", device="cpu", offline=True))
    assert registry.default.served
    engine = registry.default.served.engine
    assert isinstance(engine, Supervised)
    engine.submit(make_window(), DecodingOptions(), request="r").result(DEADLINE_S)
    wait_until(lambda: engine.stats().memory_bytes > 100 << 20)
    process = pid(engine)
    registry.close()
    assert not Path(f"/proc/{process}").exists()
    assert resident_bytes() - before < 20 << 20
