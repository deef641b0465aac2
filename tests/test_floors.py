"""Walks the imports of `server/`: which way they may go, and where each heavy library is at home."""

import ast
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SERVER = Path(__file__).parent.parent / "server"

# A module imports from the floors above its line in this table only; design.md, section 2, says what a floor knows.
FLOORS: dict[str, str] = {
    "words": "__init__ access errors keep_alive languages options settings stats transcript",
    "signal and text": "allocator audio bundle cage catalog children cloud_ids conversion decoding entries "
    "events folders formats frames hub logs machine mel meter metrics modelstore nvml place progress record "
    "scratch search_path sources speed spool subtitles tokens vad weights wheels words",
    "model": "devices whisper",
    "engine": "engine engine_host fairqueue job life media mediaworker messages recipe scan served "
    "spread supervise trial workers",
    "flow": "budget inventory keeper launch pipeline placing pulls registry sequential slot",
    "doors": "api.__init__ api.admission api.answers api.app api.cors api.docs api.doors api.envelope api.exchange "
    "api.fields api.forms api.gate api.gradual api.intake api.keys api.models api.ops api.page api.parameters "
    "api.pulling api.running api.schema api.streaming api.tracing api.transcriptions api.uploads",
    "start": "__main__ bench bench_cli checks cli client completion doctor inprocess models_cli protocol "
    "ps_cli recordings serve transcribe transcribe_cli",
}

# Who may import from its own floor, and what.
SIDEWAYS: dict[str, str] = {
    "access": "stats",
    "options": "transcript",
    "settings": "keep_alive",
    "entries": "record search_path weights",
    "catalog": "conversion entries record search_path weights",
    "place": "record",
    "hub": "conversion entries place progress record",
    "wheels": "entries place progress record",
    "modelstore": "catalog entries place progress record search_path weights",
    "bundle": "catalog entries modelstore place progress record",
    "folders": "bundle catalog entries modelstore place progress record",
    "sources": "bundle catalog entries folders hub progress record search_path wheels",
    "machine": "allocator",
    "frames": "cage",
    "spool": "scratch",
    "meter": "machine nvml",
    "metrics": "meter",
    "mediaworker": "scan",
    "media": "workers",
    "formats": "subtitles",
    "events": "formats",
    "whisper": "devices",
    "engine": "fairqueue job",
    "recipe": "job",
    "messages": "recipe",
    "engine_host": "engine messages recipe",
    "life": "messages",
    "supervise": "life messages recipe",
    "spread": "served",
    "keeper": "budget slot",
    "registry": "budget inventory keeper launch slot",
    "pipeline": "keeper placing registry sequential",
    "api.envelope": "api.doors",
    "api.exchange": "api.admission api.doors",
    "api.gate": "api.admission api.cors api.doors api.envelope api.exchange api.intake api.keys",
    "api.intake": "api.admission",
    "api.forms": "api.fields",
    "api.gradual": "api.envelope",
    "api.pulling": "api.fields api.gradual",
    "api.running": "api.fields api.forms api.gradual",
    "api.schema": "api.answers api.parameters",
    "api.streaming": "api.envelope api.gradual",
    "api.tracing": "api.gate",
    "api.transcriptions": "api.admission api.forms api.gradual api.streaming api.uploads",
    "api.uploads": "api.admission",
    "api.app": "api.admission api.docs api.envelope api.gate api.models api.ops api.page api.pulling "
    "api.running api.schema api.tracing api.transcriptions",
    "trial": "engine recipe",
    "doctor": "checks serve",
    "serve": "checks protocol",
    "transcribe": "client inprocess recordings",
    "transcribe_cli": "recordings transcribe",
    "ps_cli": "client",
    "bench": "checks client inprocess transcribe",
    "bench_cli": "bench",
    "cli": "bench_cli completion doctor models_cli ps_cli serve transcribe_cli",
    "__main__": "cli",
}

# Libraries that live in some modules only; `api.*` is every module of that package.
HOMES: dict[str, str] = {
    "av": "audio",
    "ctranslate2": "devices whisper",
    "faster_whisper": "whisper",
    "tokenizers": "whisper",
    "onnxruntime": "vad",
    "fastapi": "api.*",
    "starlette": "api.*",
    "multipart": "api.*",
    "python_multipart": "api.*",
    "uvicorn": "protocol serve",
    "h11": "protocol",
    "huggingface_hub": "hub",
    "httpx": "hub",
    "httpx2": "client",
    "prometheus_client": "metrics",
    "shtab": "completion",
    "opentelemetry": "api.tracing",
    "tqdm": "progress transcribe",
    "pydantic": "settings cli",
    "pydantic_settings": "settings",
}

Sources = Mapping[str, str]  # module (`api.app`, without the package's own name) -> source text


def read_sources(folder: Path = SERVER) -> Sources:
    paths = sorted(folder.rglob("*.py"))
    return {".".join(path.relative_to(folder).with_suffix("").parts): path.read_text("utf-8") for path in paths}


def imported(module: str, source: str, known: Iterable[str]) -> set[str]:
    """Modules of `server` that `source` imports, anywhere in it, and top-level names of all other libraries."""
    known = set(known)
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                dotted = [alias.name for alias in names]
            case ast.ImportFrom(None | "", names, level) | ast.ImportFrom(_, names, level) if level:
                base = ["server", *module.split(".")][:-level]
                base += node.module.split(".") if node.module else []
                dotted = [".".join([*base, alias.name]) for alias in names]
            case ast.ImportFrom(str(name), names):
                dotted = [f"{name}.{alias.name}" for alias in names]
            case _:
                continue
        found |= {_target(name, known) for name in dotted}
    return found


def _target(dotted: str, known: set[str]) -> str:
    """The module of `server` that holds what `dotted` names, or the top-level name of another library."""
    top, *inside = dotted.split(".")
    if top != "server":
        return top
    for end in range(len(inside), 0, -1):
        name = ".".join(inside[:end])
        for module in (name, f"{name}.__init__"):
            if module in known:
                return f"server:{module}"
    return "server:__init__"


def own_imports(module: str, sources: Sources) -> set[str]:
    found = imported(module, sources[module], sources)
    return {name.removeprefix("server:") for name in found if name.startswith("server:")}


def unplaced(sources: Sources) -> list[str]:
    """Modules on no floor, and floors' modules that are not there."""
    placed = [name for names in FLOORS.values() for name in names.split()]
    return sorted(set(placed) ^ set(sources)) + [f"{name} twice" for name in set(placed) if placed.count(name) > 1]


def wrong_imports(sources: Sources) -> list[str]:
    """Imports that go up or sideways and are not listed."""
    floor = {name: number for number, names in enumerate(FLOORS.values()) for name in names.split()}
    return [
        f"{module} imports {target}"
        for module in sources
        for target in sorted(own_imports(module, sources) - {module})
        if floor[target] >= floor[module] and target not in SIDEWAYS.get(module, "").split()
    ]


def strays(sources: Sources) -> list[str]:
    """Heavy libraries outside their homes."""
    return [
        f"{module} imports {library}"
        for module, source in sources.items()
        for library in sorted(imported(module, source, sources) & set(HOMES))
        if module not in HOMES[library].split() and f"{module.rpartition('.')[0]}.*" not in HOMES[library].split()
    ]


def cycle(sources: Sources) -> list[str]:
    """The modules of an import cycle, if there is one."""
    try:
        TopologicalSorter({module: own_imports(module, sources) - {module} for module in sources}).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_every_module_is_on_one_floor() -> None:
    assert unplaced(read_sources()) == []


def test_imports_go_down() -> None:
    assert wrong_imports(read_sources()) == []


def test_heavy_libraries_stay_at_home() -> None:
    assert strays(read_sources()) == []


def test_no_modules_import_each_other() -> None:
    assert cycle(read_sources()) == []


def test_every_exception_is_needed() -> None:
    sources = read_sources()
    unused = [
        f"{module} -> {target}"
        for module, targets in SIDEWAYS.items()
        for target in targets.split()
        if target not in own_imports(module, sources)
    ]
    assert unused == []


# The rules above are worth what the checker sees: each form of import, planted into the real tree.
@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("spool", "import server.engine", "spool imports engine"),
        ("spool", "from server.engine import Engine", "spool imports engine"),
        ("spool", "from server import engine as model", "spool imports engine"),
        ("spool", "from . import engine", "spool imports engine"),
        ("spool", "from .engine import Engine", "spool imports engine"),
        ("spool", "def late():\n    from server.engine import Engine", "spool imports engine"),
        ("spool", "if TYPE_CHECKING:\n    from server.engine import Engine", "spool imports engine"),
        ("spool", "import os, server.vad", "spool imports vad"),
        ("errors", "from server.transcript import Word", "errors imports transcript"),
        ("engine", "from server.media import Media", "engine imports media"),
        ("whisper", "from server.engine import Model", "whisper imports engine"),
        ("media", "from server import pipeline", "media imports pipeline"),
        ("pipeline", "from server.api import app", "pipeline imports api.app"),
        ("api.envelope", "from .gate import Gate", "api.envelope imports api.gate"),
        ("api.envelope", "from ..serve import serve", "api.envelope imports serve"),
        ("registry", "import server.api", "registry imports api.__init__"),
        ("serve", "from server.cli import run", "serve imports cli"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(module: str, line: str, complaint: str) -> None:
    sources = dict(read_sources())
    sources[module] += f"\n{line}\n"
    assert wrong_imports(sources) == [complaint]


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("media", "import av", "media imports av"),
        ("media", "import av.audio.fifo", "media imports av"),
        ("engine", "from ctranslate2.models import Whisper", "engine imports ctranslate2"),
        ("vad", "def late():\n    from faster_whisper.vad import x", "vad imports faster_whisper"),
        ("serve", "from starlette.types import ASGIApp", "serve imports starlette"),
        ("errors", "from fastapi import HTTPException", "errors imports fastapi"),
        ("api.app", "import uvicorn", "api.app imports uvicorn"),
        ("options", "from pydantic import BaseModel", "options imports pydantic"),
    ],
)
def test_a_heavy_library_away_from_home_is_found(module: str, line: str, complaint: str) -> None:
    sources = dict(read_sources())
    sources[module] += f"\n{line}\n"
    assert complaint in strays(sources)


def test_a_cycle_is_found() -> None:
    assert set(cycle({"a": "from server import b", "b": "import server.c", "c": "from .a import x"})) == set("abc")


def test_a_new_module_and_one_that_is_gone_are_found() -> None:
    sources = dict(read_sources())
    del sources["mel"]
    assert unplaced({**sources, "api.realtime": ""}) == ["api.realtime", "mel"]
