"""GET /v1/models and /v1/models/{id}: what a client's menu shows. DELETE, for admin keys."""

import asyncio
import json
import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.errors import PermissionDenied
from server.modelstore import check_removable, lying_in, remove
from server.registry import Registry
from server.settings import Settings

OWNER = "sotto"
# A JSON array that holds strings alone, as `indent` writes it. No string of JSON holds a line break.
TEXTS = re.compile(r'\[\n(?: +"[^\n]*",?\n)+ +\](?=,?\n)')

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the ids that requests may name, aliases included; the demo model's only while it is the default."""
    registry: Registry = request.state.registry
    entries = [_entry(registry, name) for name in registry.ids()]
    for entry in entries:
        if entry["root"] != entry["id"]:  # its model's own entry has them, up to a hundred
            del entry["languages"]
    return _pretty({"object": "list", "data": entries})


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """Describe one model; ids with a slash come encoded or bare."""
    return _pretty(_entry(request.state.registry, model))


@router.delete("/v1/models/{model:path}")
async def delete(request: Request, model: str) -> Response:
    """Delete a model's files, which takes an admin key; not while it is used, and never the default one's."""
    registry: Registry = request.state.registry
    slot = registry.named(model)
    request.state.keys.check_admin(request.headers)
    if slot is registry.default:
        raise PermissionDenied(f"'{model}' is the default model, which can't be deleted.", param="model")
    settings: Settings = request.state.settings
    files = await asyncio.to_thread(lying_in, slot.known.folder, settings.models_dir, request.state.catalogue)
    check_removable(files)
    await registry.unload(model)
    await asyncio.to_thread(remove, files)
    await registry.rescan()
    return _pretty({"id": model, "object": "model", "deleted": True})


def _entry(registry: Registry, name: str) -> dict[str, object]:
    state = registry.state(registry.find(name))
    entry: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": state.created,
        "owned_by": OWNER,
        "root": state.name,
        "state": state.presence,
        "size": state.size_bytes,
        "languages": state.languages,
    }
    notes = {"demo": state.demo, "reason": state.reason}
    return entry | {name: note for name, note in notes.items() if note}


def _pretty(content: dict[str, object]) -> Response:
    """As OpenAI writes models, and nothing else: people read these in a terminal. Texts are on one line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return Response(TEXTS.sub(_on_one_line, text), media_type="application/json")


def _on_one_line(found: re.Match[str]) -> str:
    return json.dumps(json.loads(found[0]), ensure_ascii=False)
