"""Writes the tables of the documents that come from the code: settings, routes, fields, errors, models, rooms.

    python -m scripts.write_docs        `make docs`; a test fails where this would change a file

A document marks the place of a table: what is between `<!-- generated: NAME -->` and `<!-- end -->` is replaced.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from server.api.openapi.declarations import ERRORS, RETRIED
from server.api.openapi.document import describe
from server.api.openapi.parameters import PARAMETERS, Parameter
from server.errors import SottoError
from server.models import catalog
from server.models.catalog_file import CatalogEntry
from server.settings import PREFIX, Settings
from tests.project.test_layout import ROOMS, SERVER

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
REGION = re.compile(r"(?<=<!-- generated: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)

# Headings of docs/settings.md, each with its settings in the order of the page.
GROUPS: dict[str, str] = {
    "Address": "host port max_connections idle_timeout_seconds head_timeout_seconds send_timeout_seconds "
    "grace_seconds",
    "Access": "api_keys api_keys_file admin_keys admin_keys_file metrics_key cors_origins page",
    "Models": "model preload keep_alive memory_budget_mb cloud_model_ids models_dir extra_models_dirs "
    "catalog model_sources offline",
    "Device": "device compute_type threads workers tune_allocator",
    "Limits": "max_requests max_requests_per_client max_queue_seconds max_queue_seconds_per_client "
    "max_audio_seconds request_timeout_seconds",
    "Uploads": "max_upload_mb max_render_mb max_uploads uploads_mb min_upload_bytes_per_second "
    "upload_timeout_seconds spool_mb "
    "media_workers media_memory_mb media_timeout_seconds",
    "Decoding": "beam_size condition_on_previous_text prompt_bucket encoder_window batch bulk_batch max_windows "
    "encoder_cache_mb",
    "Answers": "response_dialect nested_words json_heartbeat_seconds",
    "Log": "log_level log_format log_text",
}


# The schemas of /openapi.json whose fields docs/api.md lists, in the order of the page.
ANSWERS = (
    "JsonTranscription VerboseTranscription TranscriptionSegment TranscriptionWord Logprob Language DurationUsage "
    "TokenUsage InputTokenDetails ModelEntry RunningModel PullEvent Health"
).split()


def main() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        written = regenerated(text)
        if written != text:
            path.write_text(written, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


def regenerated(text: str) -> str:
    """A document with its marked tables as the code has them now. KeyError for the name of no table."""
    return REGION.sub(lambda found: f"{found[1]}{found[2]}\n{TABLES[found[1]]()}\n", text)


def settings() -> str:
    return "\n".join(f"## {group}\n\n{_settings_of(names.split())}" for group, names in GROUPS.items())


def _settings_of(names: Iterable[str]) -> str:
    rows = (_setting_row(name, Settings.model_fields[name]) for name in names)
    return _table(("variable", "default", "values", ""), rows)


def _setting_row(name: str, field: FieldInfo) -> tuple[str, ...]:
    return f"`{PREFIX}{name.upper()}`", default_of(field), values_of(field), field.description or ""


def default_of(field: FieldInfo) -> str:
    """A setting's default as the environment would have it."""
    value = field.default
    if value in ((), None):
        return "empty"
    if isinstance(value, tuple):
        value = ",".join(value)
    if isinstance(value, bool):
        value = int(value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def values_of(field: FieldInfo) -> str:
    """What a setting may be: the choices or the bounds that are checked; empty where anything is taken."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    if field.annotation is bool:
        return "`0`, `1`"
    return _range_of(field.metadata)


def _range_of(bounds: Iterable[object]) -> str:
    least = most = ""
    for bound in bounds:
        match bound:
            case Ge(ge=value):
                least = f"from {value}"
            case Gt(gt=value):
                least = f"above {value}"
            case Le(le=value):
                most = f"to {value}"
    return f"{least} {most}".strip()


def routes() -> str:
    return _table(("route", "", "key", "errors"), _route_rows(describe()["paths"]))


def _route_rows(paths: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            statuses = ", ".join(status for status in operation["responses"] if status != "200")
            text = operation["description"].replace("; requires an admin key", "").removesuffix(".")
            yield f"`{method.upper()} {path}`", text, _key_of(operation), statuses


def _key_of(operation: Mapping[str, Any]) -> str:
    if operation.get("security") == []:
        return "none"
    return "admin" if "403" in operation["responses"] else "any"


def fields() -> str:
    return _field_table(each for each in PARAMETERS if not each.ours)


def own_fields() -> str:
    return _field_table(each for each in PARAMETERS if each.ours)


def _field_table(parameters: Iterable[Parameter]) -> str:
    return _table(("field", ""), ((f"`{each.name}`", each.description) for each in parameters))


def errors() -> str:
    rows = (
        (
            str(status),
            ", ".join(f"`{code}`" for code in _codes(status)),
            meaning,
            "yes" if status in RETRIED else "no",
        )
        for status, meaning in ERRORS.items()
    )
    return _table(("status", "codes, among others", "meaning", "`Retry-After`"), rows)


def _codes(status: int) -> list[str]:
    """Those that errors of this status have unless one is made with another."""
    own = (kind for kind in _kinds(SottoError) if kind.__module__ == SottoError.__module__)
    return sorted({kind.code for kind in own if kind.status == status and kind.code})


def _kinds(kind: type[SottoError]) -> Iterator[type[SottoError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def models() -> str:
    entries = sorted(catalog.load().models, key=lambda entry: entry.is_bundled)
    return _table(("model", "download", "memory, CPU", "memory, GPU", "other names"), map(_model_row, entries))


def _model_row(entry: CatalogEntry) -> tuple[str, ...]:
    download, shape = entry.download_bytes, entry.dimensions
    cpu, gpu = (shape.estimated_bytes("int8"), shape.estimated_bytes("float16", "cuda")) if shape else (0, 0)
    others = ", ".join(f"`{name}`" for name in entry.names if name != entry.name)
    return f"`{entry.name}`", f"{(download or 0) / 1e6:,.0f} MB", _gigabytes(cpu), _gigabytes(gpu), others


def answers() -> str:
    known = describe()["components"]["schemas"]
    return "\n".join(f"### {name}\n\n{_answer(known[name])}" for name in ANSWERS)


def _answer(schema: Mapping[str, Any]) -> str:
    required = schema["required"]
    rows = (
        (f"`{name}`", _type_of(each), "" if name in required else "optional", each.get("description", ""))
        for name, each in schema["properties"].items()
    )
    text = f"{schema['description']}\n\n" if "description" in schema else ""
    return text + _table(("field", "type", "", ""), rows)


def _type_of(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a few words; what is described under a heading of its own as a link there."""
    match schema:
        case {"$ref": str(path)}:
            name = path.rpartition("/")[2]
            return f"[{name}](#{name.lower()})" if name in ANSWERS else name
        case {"anyOf": list(choices)}:
            return " or ".join(map(_type_of, choices))
        case {"const": value}:
            return f"`{json.dumps(value)}`"
        case {"enum": list(values)}:
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"type": "array", "items": items}:
            return f"list of {_type_of(items)}"
    return str(schema["type"])


def rooms() -> str:
    return _table(("room of `server/`", "what happens there", "may import"), (_room_row(room) for room in ROOMS))


def _room_row(room: str) -> tuple[str, ...]:
    text = ast.get_docstring(ast.parse((SERVER / room / "__init__.py").read_text("utf-8"))) or ""
    return f"`{room}`", text, " ".join(f"`{other}`" for other in ROOMS[room].split()) or "-"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [[*head], *([*row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in line)}|\n" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "routes": routes,
    "fields": fields,
    "own_fields": own_fields,
    "errors": errors,
    "answers": answers,
    "models": models,
    "rooms": rooms,
}

if __name__ == "__main__":
    main()
