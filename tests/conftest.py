"""What many tests need and is made once: models loaded, recordings decoded, windows of either.

Heavy libraries are imported inside the fixtures, so that tests without a model start at once.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest

from server.transcript import Span, Window
from tests.support.guard import sitecustomize as guard

if TYPE_CHECKING:
    from openai import OpenAI

    from server.whisper.model import Whisper
    from tests.support.serving import Running

DATA = Path(__file__).parent / "data"
DEMO = Path(__file__).parent.parent / "models" / "demo"
MANIFEST = [json.loads(line) for line in (DATA / "manifest.jsonl").read_text("utf-8").splitlines()]
RECORDINGS: list[str] = [entry["file"] for entry in MANIFEST]
SCRIPTED_TEXT = " Hello world, this is a test."
SCRIPTED_END_S = 2.4

Samples = npt.NDArray[np.int16]


# By default an example that takes 200 ms fails its test, and so do examples that take a second to draw.
hypothesis.settings.register_profile(
    "busy", hypothesis.settings.default, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")
# The models that this user has are none of the tests' business: without any, the bundled one is the default.
os.environ |= {"SOTTO_MODELS_DIR": "/nonexistent/models", "HF_HUB_CACHE": "/nonexistent/hub"}

UNGUARDED = dict(os.environ)
"""The environment for a child that has to reach a package index, which it says by using this."""
sys.addaudithook(guard.refuse_outside)
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]  # one on this machine would lead out of it, unseen


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio alone, as the server does."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _children_take_sigint() -> Iterator[None]:
    """What a script starts in the background ignores SIGINT, and children inherit that.

    They do not inherit a handler: the signal then does as little here as before, and its default to them.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def outside_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the guard has noted since a test last looked, in this process and in Python children."""
    log = tmp_path_factory.mktemp("guard") / "outside.log"
    log.touch()
    folder = str(Path(guard.__file__).parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(guard.LOG, str(log))
        patch.setenv("PYTHONPATH", folder, prepend=os.pathsep)
        yield log


@pytest.fixture(autouse=True)
def _contacts_no_outside_host(outside_log: Path) -> Iterator[None]:
    yield
    if outside_log.stat().st_size:
        noted = outside_log.read_text()
        outside_log.write_text("")
        pytest.fail(f"other machines were contacted, which no test may do:\n{noted}")


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no key comes from the shell that runs the tests, and there is no model but the bundled one."""
    from server.settings import PREFIX

    for name in [name for name in os.environ if name.upper().startswith(PREFIX) or name == "OPENAI_API_KEY"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOTTO_MODELS_DIR", "/nonexistent/models")


@pytest.fixture
def cpu_offline(no_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on every machine."""
    monkeypatch.setenv("SOTTO_DEVICE", "cpu")
    monkeypatch.setenv("SOTTO_OFFLINE", "1")


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Commands send all logging to their own standard error."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@cache
def samples_of(name: str) -> Samples:
    """A recording of `tests/data` at 16 kHz, mono."""
    from server.audio.decode import open_audio

    with (DATA / name).open("rb") as file, open_audio(file, limit_s=3600) as blocks:
        samples = np.concatenate(list(blocks))
    samples.flags.writeable = False  # every test gets the same array
    return samples


def window_of(samples: Samples | str, start: int = 0, end: int | None = None, *, context: int = 0) -> Window:
    """A window over `samples[start:end]`, or a recording's, with `context` samples around it where there are."""
    audio = samples_of(samples) if isinstance(samples, str) else samples
    end = len(audio) if end is None else end
    lead, tail = min(context, start), min(context, len(audio) - end)
    data = audio[start - lead : end + tail].tobytes()
    return Window(0, (Span(start, end),), samples=data, lead=lead, tail=tail)


@pytest.fixture(scope="session")
def manifest() -> list[dict[str, Any]]:
    """What `tests/data/README.md` says of each recording."""
    return MANIFEST


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """Folder of the bundled model."""
    return DEMO


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that answers `SCRIPTED_TEXT` to everything."""
    from tests.support.scripted import Script, build

    return build(tmp_path_factory.mktemp("models") / "scripted", script=Script(SCRIPTED_TEXT, SCRIPTED_END_S))


@pytest.fixture(scope="session")
def demo(demo_model: Path) -> Iterator["Whisper"]:
    yield from _loaded(demo_model)


@pytest.fixture(scope="session")
def scripted(scripted_model: Path) -> Iterator["Whisper"]:
    yield from _loaded(scripted_model)


def _loaded(folder: Path) -> Iterator["Whisper"]:
    from server.options import ModelOptions
    from server.whisper.model import Whisper

    model = Whisper(folder, ModelOptions(device="cpu", threads=1))
    yield model
    model.close()


@pytest.fixture(scope="session")
def server() -> Iterator["Running"]:
    """The bundled model behind a real server, for all tests that don't need settings of their own."""
    from tests.support.serving import serving

    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def sdk(server: "Running") -> Iterator["OpenAI"]:
    with server.sdk() as client:
        yield client
