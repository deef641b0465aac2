"""Walks the imports of `server/`: which room may import which, and where each heavy library is at home."""

import ast
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[2] / "server"

# Files at the top: the program's own terms. Everything may import them; they import each other and no room.
WORDS = "__init__ errors settings options transcript languages keep_alive stats logs"

# What each room may import, beside itself and the words.
ROOMS: dict[str, str] = {
    "system": "",
    "formats": "",
    "models": "system",
    "monitoring": "system",
    "audio": "system",
    "whisper": "audio.mel system",
    "engine": "whisper system",
    "pool": "engine models system",
    "transcription": "pool audio",
    "api": "transcription pool models audio formats monitoring system",
    "commands": "api transcription pool engine whisper audio models formats monitoring system",
    "cli": "commands models system",
}

# Inside `api/` there is an order: a line imports from itself and from the lines above.
API_ORDER = (
    "paths fields errors",
    "gate h11_protocol",
    "forms uploads json_body posted_transcript heartbeat streaming tracing",
    "routes openapi",
    "app",
)

# Libraries that are imported in some modules only; `api.*` is everything below that package.
HOMES: dict[str, str] = {
    "av": "audio.decode",
    "ctranslate2": "whisper.devices whisper.model",
    "faster_whisper": "whisper.model whisper.results",
    "tokenizers": "whisper.model whisper.results",
    "onnxruntime": "audio.speech",
    "fastapi": "api.*",
    "starlette": "api.*",
    "multipart": "api.*",
    "python_multipart": "api.*",
    "uvicorn": "api.h11_protocol commands.serve",
    "h11": "api.h11_protocol",
    "huggingface_hub": "models.hub",
    "httpx": "models.hub",
    "httpx2": "commands.client",
    "prometheus_client": "monitoring.prometheus monitoring.request_metrics",
    "click": "cli.*",
    "opentelemetry": "api.tracing",
    "tqdm": "commands.transcribe models.progress",
    "pydantic": "api.openapi.declarations api.posted_transcript cli.main settings",
    "pydantic_settings": "settings",
}

Sources = Mapping[str, str]  # module (`api.app`, without the package's own name) -> source text


def read_sources(folder: Path = SERVER) -> Sources:
    paths = sorted(folder.rglob("*.py"))
    names = {path: ".".join(path.relative_to(folder).with_suffix("").parts) for path in paths}
    return {name: path.read_text("utf-8") for path, name in names.items()}


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
    return {name.removeprefix("server:") for name in found if name.startswith("server:")} - {module}


def room_of(module: str) -> str:
    """The folder at the top that `module` is in; empty for a file at the top."""
    return module.partition(".")[0] if "." in module else ""


def api_line(module: str) -> int:
    """The line of `API_ORDER` that `module` of `api/` is on; -1 for `api/__init__.py`, -2 if it is on none."""
    name = module.split(".")[1]
    if name == "__init__":
        return -1
    return next((number for number, names in enumerate(API_ORDER) if name in names.split()), -2)


def unplaced(sources: Sources) -> list[str]:
    """Modules at the top that are no words, in no known room, or on no line of `API_ORDER`; words that are gone."""
    top = {name for name in sources if not room_of(name)} - {"__main__"}
    strange = {name for name in sources if room_of(name) and room_of(name) not in ROOMS}
    orderless = {name for name in sources if room_of(name) == "api" and api_line(name) == -2}
    return sorted((top ^ set(WORDS.split())) | strange | orderless)


def may_import(module: str, target: str) -> bool:
    """Whether the tables above let `module` import `target`."""
    room, other = room_of(module), room_of(target)
    if module == "__main__":
        return other in ("", "cli")
    if not other:
        return target != "__main__"
    if room == other:
        return room != "api" or api_line(target) <= api_line(module)
    return room != "" and any(name in (other, target) for name in ROOMS[room].split())


def wrong_imports(sources: Sources) -> list[str]:
    return [
        f"{module} imports {target}"
        for module in sources
        for target in sorted(own_imports(module, sources))
        if not may_import(module, target)
    ]


def strays(sources: Sources) -> list[str]:
    """Heavy libraries outside their homes."""
    return [
        f"{module} imports {library}"
        for module, source in sources.items()
        for library in sorted(imported(module, source, sources) & set(HOMES))
        if module not in HOMES[library].split() and f"{room_of(module)}.*" not in HOMES[library].split()
    ]


def cycle(sources: Sources) -> list[str]:
    """The modules of an import cycle, if there is one."""
    try:
        TopologicalSorter({module: own_imports(module, sources) for module in sources}).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def room_cycle(rooms: Mapping[str, str]) -> list[str]:
    """Rooms that may import each other, by `rooms`."""
    lines = {
        room: [f"import server.{name.partition('.')[0]}" for name in names.split()] for room, names in rooms.items()
    }
    return cycle({room: "\n".join(imports) for room, imports in lines.items()})


def packages_with_code(folder: Path = SERVER) -> list[str]:
    """Rooms whose `__init__.py` is more than one docstring: importing a module must not import its neighbours."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.glob("*/**/__init__.py"))
        if len(body := ast.parse(path.read_text("utf-8")).body) != 1
        or not (isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant))
    ]


def test_every_module_has_its_room() -> None:
    assert unplaced(read_sources()) == []


def test_imports_run_down_the_table() -> None:
    assert wrong_imports(read_sources()) == []


def test_heavy_libraries_stay_at_home() -> None:
    assert strays(read_sources()) == []


def test_no_modules_import_each_other() -> None:
    assert cycle(read_sources()) == []


def test_no_rooms_may_import_each_other() -> None:
    assert room_cycle(ROOMS) == []


def test_a_package_is_one_docstring() -> None:
    assert packages_with_code() == []


# The rules above are worth what the checker sees: each form of import, planted into the real tree.
@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("audio.spool", "import server.engine.engine", "audio.spool imports engine.engine"),
        ("audio.spool", "from server.engine.engine import Engine", "audio.spool imports engine.engine"),
        ("audio.spool", "from server.engine import engine as model", "audio.spool imports engine.engine"),
        ("audio.spool", "from ..engine import engine", "audio.spool imports engine.engine"),
        ("audio.spool", "from ..engine.engine import Engine", "audio.spool imports engine.engine"),
        ("audio.spool", "def late():\n    from server.engine.job import Job", "audio.spool imports engine.job"),
        ("audio.spool", "if TYPE_CHECKING:\n    import server.engine.job", "audio.spool imports engine.job"),
        ("audio.spool", "import os, server.formats.subtitles", "audio.spool imports formats.subtitles"),
        ("errors", "from server.system.scratch import x", "errors imports system.scratch"),
        ("whisper.tokens", "from server.audio.spool import Spool", "whisper.tokens imports audio.spool"),
        ("transcription.pipeline", "from server.api import app", "transcription.pipeline imports api.app"),
        ("api.fields", "from .app import create_app", "api.fields imports api.app"),
        ("api.forms", "from ..commands import serve", "api.forms imports commands.serve"),
        ("commands.serve", "from server.cli.main import run", "commands.serve imports cli.main"),
        ("pool.registry", "import server.__main__", "pool.registry imports __main__"),
    ],
)
def test_an_import_that_is_not_in_the_table_is_found(module: str, line: str, complaint: str) -> None:
    sources = dict(read_sources())
    sources[module] += f"\n{line}\n"
    assert wrong_imports(sources) == [complaint]


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("audio.spool", "import av", "audio.spool imports av"),
        ("audio.spool", "import av.audio.fifo", "audio.spool imports av"),
        ("engine.engine", "from ctranslate2.models import Whisper", "engine.engine imports ctranslate2"),
        ("audio.mel", "def late():\n    from faster_whisper.vad import x", "audio.mel imports faster_whisper"),
        ("commands.serve", "from starlette.types import ASGIApp", "commands.serve imports starlette"),
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
    assert set(room_cycle({"a": "b.x", "b": "c", "c": "a"})) == set("abc")


def test_a_module_without_a_room_and_one_that_is_gone_are_found() -> None:
    sources = dict(read_sources())
    del sources["errors"]
    new = {"helpers": "", "attic.old": "", "api.realtime": ""}
    assert unplaced({**sources, **new}) == ["api.realtime", "attic.old", "errors", "helpers"]


def test_a_package_that_imports_is_found(tmp_path: Path) -> None:
    for name, text in {"good": '"""A room."""\n', "empty": "", "busy": '"""A room."""\n\nimport os\n'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    assert packages_with_code(tmp_path) == ["busy/__init__.py", "empty/__init__.py"]
