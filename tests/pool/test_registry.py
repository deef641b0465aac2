import asyncio
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from server.engine.engine import Engine
from server.engine.interface import EngineLike
from server.engine.limits import BatchLimits
from server.engine.supervisor import SupervisedEngine
from server.errors import ModelBroken, ModelBusy, ModelNotFound, ModelUnavailable
from server.keep_alive import FOREVER
from server.models.known_model import KnownModel
from server.options import DecodingOptions
from server.pool.memory_budget import Budget, Need
from server.pool.pool import ModelPool
from server.pool.registry import Registry, load
from server.pool.served_model import ServedModel
from server.pool.slot import AGAIN_S
from server.settings import Settings
from server.system.machine import resident_bytes
from server.whisper.model import Whisper
from server.whisper.tuning import FORCE_ISA
from tests.support.fakes import DEADLINE_S, FakeEngine, eventually, make_window, peek
from tests.support.hosted import pid
from tests.support.launches import Engines, Starting
from tests.support.registries import registry_of, served_model


def served(*names: str, engine: EngineLike | None = None) -> ServedModel:
    return served_model(engine or FakeEngine(), names=names, languages=("en",))


TURBO = served("large-v3-turbo", "turbo", "openai/whisper-large-v3-turbo")
DEMO = served("demo", "Whisper-Demo")
REGISTRY = registry_of(TURBO, DEMO)


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


HOSTED = (
    "whisper whisper-001 whisper-large whisper-large-v2 whisper-large-v3 Whisper-Large-v3 whisper-large-v3-turbo "
    "distil-whisper-large-v3-en openai/whisper openai/whisper-large-v3 openai/whisper-large-v3-turbo "
    "openai/whisper-tiny openai/whisper-small.en openai/whisper-timestamped-medium distil-whisper/distil-large-v3 "
    "whisper-v3 whisper-v3-turbo accounts/fireworks/models/whisper-v3-turbo @cf/openai/whisper-large-v3-turbo "
    "@cf/openai/whisper-tiny-en"
).split()


@pytest.mark.parametrize("name", HOSTED)
def test_id_of_a_whisper_that_clouds_host_means_the_default_model(name: str) -> None:
    registry = registry_of(DEMO, served("tiny"))
    assert registry.find(name) is registry.default


@pytest.mark.parametrize("name", HOSTED)
def test_id_of_a_whisper_that_clouds_host_is_unknown_where_these_are_off(name: str) -> None:
    registry = registry_of(DEMO, cloud_model_ids=False)
    with pytest.raises(ModelNotFound):
        registry.find(name)
    assert registry.find("whisper-1") is registry.default


def test_an_installed_model_takes_precedence_over_a_cloud_id() -> None:
    large = served("large-v3", "whisper-large-v3", "openai/whisper-large-v3")
    registry = registry_of(DEMO, large)
    assert registry.find("whisper-large-v3").served is large
    assert registry.find("OpenAI/Whisper-large-v3").served is large
    assert registry.find("whisper-large-v2").served is DEMO


@pytest.mark.anyio
async def test_no_other_model_is_loaded_or_unloaded_by_an_id_that_clouds_host() -> None:
    registry = registry_of(DEMO)
    for manage in (registry.load, registry.unload):
        with pytest.raises(ModelNotFound):
            await manage("whisper-large-v3")
    assert registry.default.served is DEMO


@pytest.mark.parametrize(
    "name",
    [
        " ",
        "whisper-large-v4",
        "whisper-tiny",
        "whisper-large-v3\nx",
        "openai/../whisper",
        "my/whisper-large-v3",
        "tiny",  # in the catalog, but not installed
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


@pytest.mark.timeout(100)
@pytest.mark.parametrize("fits", [True, False])
def test_a_name_of_a_megabyte_is_refused_quickly(fits: bool) -> None:
    name = "gpt-" + "transcribe" * 100_000 + ("" if fits else "!")
    if fits:
        assert REGISTRY.find(name) is REGISTRY.default
    else:
        with pytest.raises(ModelNotFound):
            REGISTRY.find(name)


@pytest.mark.timeout(100)
def test_a_name_of_a_megabyte_that_starts_like_a_cloud_id_is_refused_quickly() -> None:
    for name in ("whisper-large" + "-v3" * 300_000, "openai/whisper-" * 60_000, "whisper-v3" + "-turbo" * 150_000):
        with pytest.raises(ModelNotFound):
            REGISTRY.find(name)


def test_ids_are_all_names_and_those_of_the_cloud() -> None:
    assert REGISTRY.ids() == [*TURBO.known.names, *DEMO.known.names, "whisper-1"]
    assert all(REGISTRY.find(name) for name in REGISTRY.ids())


@pytest.mark.parametrize(("names", "offered"), [("demo own", ["demo", "own"]), ("own demo", ["own"])])
def test_a_demo_is_offered_only_as_the_default_but_can_always_be_named(names: str, offered: list[str]) -> None:
    pool = ModelPool(loading, Budget(lambda _: Need(0, 0)))
    pool.set_models([KnownModel((name,), Path(name), demo=name == "demo") for name in names.split()], FOREVER)
    with closing(Registry(pool)) as registry:
        assert registry.ids() == [*offered, "whisper-1"]
        assert registry.find("demo").name == "demo"


def test_a_model_is_called_by_its_first_name() -> None:
    assert TURBO.name == "large-v3-turbo"


def test_closing_closes_every_engine() -> None:
    engines = [FakeEngine(), FakeEngine()]
    registry_of(*(served(f"model-{number}", engine=engine) for number, engine in enumerate(engines))).close()
    assert [engine.closed for engine in engines] == [True, True]


def test_the_bundled_model_is_loaded_under_its_names() -> None:
    registry = load(Settings(model="demo", device="cpu", offline=True))
    try:
        model = registry.default.served
        assert model
        assert model.name == "demo"
        assert registry.find("whisper-1").served is model
        assert {"en", "de", "es"} <= set(model.known.languages)
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
        assert engine._limits == BatchLimits(3, 5, cache_bytes=7 << 20)
        assert (model.workers, model._prompt_bucket, model._dynamic_context) == (2, 16, True)
        assert (served.known.mels, served.known.window_s) == (80, 10.0)
    finally:
        registry.close()


def test_in_this_process_the_model_stays_however_short_a_server_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORCE_ISA, "")  # as above
    monkeypatch.delenv(FORCE_ISA)

    async def use(registry: Registry) -> None:
        lease = registry.lease(registry.default)
        await lease.model()
        lease.release()

    with closing(load(Settings(keep_alive=0), in_process=True)) as registry:
        asyncio.run(use(registry))
        assert registry.default.served


HEAVY = "av ctranslate2 faster_whisper huggingface_hub onnxruntime tokenizers".split()
SERVER = """
import sys
import server.commands.serve
from server.pool.registry import load
from server.settings import Settings
registry = load(Settings(model="demo", offline=True))
registry.close()
print(*sys.modules)
"""


def test_a_server_itself_loads_no_model_and_no_codec() -> None:
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, timeout=100, check=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)
    assert "server.engine.supervisor" in done.stdout.split()


def test_the_memory_of_a_model_is_given_back_when_it_is_closed() -> None:
    before = resident_bytes()
    registry = load(Settings(model="demo", device="cpu", offline=True))
    assert registry.default.served
    engine = registry.default.served.engine
    assert isinstance(engine, SupervisedEngine)
    engine.submit(make_window(), DecodingOptions(), request="r").result(DEADLINE_S)
    assert engine.stats().memory_bytes > 100 << 20
    process = pid(engine)
    registry.close()
    assert not Path(f"/proc/{process}").exists()
    assert resident_bytes() - before < 20 << 20


class FakeSource:
    """Which models there are, as the test says."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def models(self) -> list[KnownModel]:
        return [KnownModel((name,), Path("/nonexistent", name), 10, ("en", "de")) for name in self.names]

    def stamp(self) -> object:
        return self.names


def loading(known: KnownModel) -> Starting:
    """A load that is through at once, or fails if the model is `bad`."""
    engines = Engines()
    engines.fails = "cut off" if known.name == "bad" else ""
    return engines.start(known)


def registry_with(*names: str, keep_s: float = FOREVER) -> Registry:
    """Over a default model that is loaded, and others that are not."""
    pool = ModelPool(loading, Budget(lambda known: Need(known.size_bytes, 0)))
    pool.adopt(KnownModel(("demo",), Path("/nonexistent/demo")), DEMO, keep_s)
    source = FakeSource("demo", *names)
    pool.set_models(source.models(), 300.0)
    return Registry(pool, source=source)


@pytest.mark.anyio
async def test_every_model_has_a_state() -> None:
    registry = registry_with("fine", "bad")
    with closing(registry):
        before_s = time.time()
        await registry.load("fine")
        with pytest.raises(ModelBroken):
            await registry.load("bad")
        demo, fine, bad = registry.states()
        assert (demo.presence, demo.requests, demo.expires_at, demo.languages) == ("loaded", 0, None, ("en",))
        assert (fine.presence, fine.size_bytes, fine.estimated_bytes, fine.counters.loads) == ("loaded", 10, 10, 1)
        assert fine.last_used
        assert before_s - 1 <= fine.last_used <= time.time() + 1
        assert fine.expires_at == pytest.approx(fine.last_used + 300, abs=1)
        assert (bad.presence, bad.reason, bad.languages, bad.counters.failures) == (
            "broken",
            "cut off",
            ("en", "de"),
            1,
        )
        assert set(registry.stats()) == {"demo", "fine"}
        assert (await registry.unload("fine")).presence == "available"
        assert set(registry.stats()) == {"demo"}


@pytest.mark.anyio
async def test_a_model_in_use_has_a_request_count_and_does_not_expire() -> None:
    registry = registry_with("fine")
    with closing(registry):
        lease = registry.lease(registry.find("fine"))
        await lease.model()
        (_, fine) = registry.states()
        assert (fine.requests, fine.expires_at) == (1, None)
        with pytest.raises(ModelBusy):
            await registry.unload("fine")
        lease.release()
        lease.release()
        assert registry.states()[1].requests == 0


@pytest.mark.anyio
async def test_a_model_that_is_being_removed_is_not_found_nor_loaded() -> None:
    registry = registry_with("fine")
    with closing(registry):
        await registry.load("fine")
        slot = registry.find("fine")
        async with registry.removing(slot):
            assert slot.served is None
            for manage in (registry.load, registry.unload):
                with pytest.raises(ModelNotFound):
                    await manage("fine")
            with pytest.raises(ModelNotFound):
                registry.find("fine")
            with pytest.raises(ModelNotFound):
                await registry.removing(slot).__aenter__()
            assert "fine" not in registry.ids()
        assert registry.find("fine") is slot  # its files are still there


@pytest.mark.anyio
async def test_a_model_whose_removal_fails_is_there_again() -> None:
    registry = registry_with("fine")
    with closing(registry):
        slot = registry.find("fine")
        with pytest.raises(OSError, match="disk"):
            async with registry.removing(slot):
                raise OSError("disk")
        assert (await registry.load("fine")).presence == "loaded"
        lease = registry.lease(slot)
        with pytest.raises(ModelBusy):
            await registry.removing(slot).__aenter__()
        assert registry.find("fine") is slot
        lease.release()


@pytest.mark.anyio
async def test_models_added_and_removed_on_disk_are_noticed() -> None:
    source = FakeSource("demo", "old")
    pool = ModelPool(loading, Budget(lambda known: Need(known.size_bytes, 0)))
    pool.set_models(source.models(), 300.0)
    registry = Registry(pool, source=source)
    watching = asyncio.create_task(registry.watch())
    with closing(registry):
        source.names = ("demo", "new")
        await eventually(lambda: registry.ids() == ["demo", "new", "whisper-1"])
        with pytest.raises(ModelNotFound):
            registry.find("old")
        await registry.load("new")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


class SlowSource(FakeSource):
    """Its first answer takes until it is let go."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.looks = 0
        self.resolve = threading.Event()

    def models(self) -> list[KnownModel]:
        seen = super().models()
        self.looks += 1
        assert self.looks > 1 or self.resolve.wait(DEADLINE_S), "held for too long"
        return seen


@pytest.mark.anyio
async def test_an_older_scan_does_not_overwrite_a_newer_one() -> None:
    source = SlowSource("demo")
    pool = ModelPool(loading, Budget(lambda known: Need(known.size_bytes, 0)))
    registry = Registry(pool, source=source)
    with closing(registry):
        older = asyncio.create_task(registry.rescan())
        await eventually(lambda: source.looks == 1)
        source.names = ("demo", "new")
        newer = asyncio.create_task(registry.rescan())
        await peek()
        source.resolve.set()
        await asyncio.gather(older, newer)
        assert registry.ids() == ["demo", "new", "whisper-1"]


@pytest.mark.anyio
async def test_an_unloaded_idle_default_model_leaves_the_server_ready() -> None:
    registry = registry_with("fine", keep_s=0.0)
    with closing(registry):
        assert registry.not_ready_reason() == ""
        await registry.unload("demo")
        assert (registry.states()[0].presence, registry.not_ready_reason()) == ("available", "")
        await registry.load("demo")


@pytest.mark.anyio
async def test_a_broken_default_model_makes_the_server_not_ready() -> None:
    pool = ModelPool(loading, Budget(lambda known: Need(0, 0)))
    pool.set_models(FakeSource("bad").models(), 300.0)
    registry = Registry(pool)
    with closing(registry):
        with pytest.raises(ModelBroken):
            await registry.load("whisper-1")
        assert registry.not_ready_reason() == "cut off"


@pytest.mark.anyio
async def test_a_default_model_that_will_be_retried_leaves_the_server_ready() -> None:
    engines, time_s = Engines(), 0.0
    pool = ModelPool(engines.start, Budget(lambda known: Need(0, 0)), now_s=lambda: time_s)
    pool.set_models(FakeSource("demo").models(), 300.0)
    registry = Registry(pool)
    with closing(registry):
        await registry.load("demo")
        await registry.unload("demo")
        engines.fails = "no memory just now"
        with pytest.raises(ModelBroken):
            await registry.load("demo")
        assert registry.not_ready_reason() == "no memory just now"
        time_s = AGAIN_S
        assert registry.not_ready_reason() == ""


def test_several_devices_that_are_not_there_are_an_error_and_leave_nothing() -> None:
    with pytest.raises(ModelUnavailable, match=r"SOTTO_DEVICE=cuda:[01]"):
        load(Settings(device="cuda:0,cuda:1"))


def test_a_default_model_beyond_the_budget_is_an_error_at_the_start() -> None:
    with pytest.raises(ModelUnavailable, match=r"'demo'.* the limit is 50 MiB \(SOTTO_MEMORY_BUDGET_MB\)"):
        load(Settings(device="cpu", memory_budget_mb=50))
