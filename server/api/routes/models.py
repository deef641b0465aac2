"""Models, /v1/models and /v1/models/{id}: GET lists them, as clients' menus show them.

POST pulls a model from the hub and streams its progress; DELETE removes it. Both need an admin key.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.api.fields import Fields
from server.api.heartbeat import DONE, SERVER_SENT_EVENTS, HeartbeatResponse, data, ended_with_client
from server.errors import PermissionDenied
from server.formats.render import Json
from server.models.installed import check_removable, installed_in, remove
from server.models.progress import Progress
from server.models.pulls import Pulls, PullSubscription
from server.pool.registry import Registry
from server.settings import Settings

OWNER = "sotto"
# A JSON array of strings only, as `indent` writes it. A JSON string contains no line break.
TEXTS = re.compile(r'\[\n(?: +"[^\n]*",?\n)+ +\](?=,?\n)')

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List the ids that requests may use, aliases included; the demo model's only while it is the default."""
    registry: Registry = request.state.registry
    entries = [_entry(registry, name) for name in registry.ids()]
    for entry in entries:
        if entry["root"] != entry["id"]:  # an alias; the model's own entry lists the languages, up to a hundred
            del entry["languages"]
    return _pretty({"object": "list", "data": entries})


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """Describe one model; ids with a slash may be percent-encoded or not."""
    return _pretty(_entry(request.state.registry, model))


@router.delete("/v1/models/{model:path}")
async def delete(request: Request, model: str) -> Response:
    """Delete a model's files; needs an admin key. Fails for a model in use and for the default model."""
    registry: Registry = request.state.registry
    slot = registry.named(model)
    request.state.keys.check_admin(request.headers)
    if slot is registry.default:
        raise PermissionDenied(f"'{model}' is the default model, which can't be deleted.", param="model")
    settings: Settings = request.state.settings
    files = await asyncio.to_thread(installed_in, slot.known.folder, settings.models_dir, request.state.catalog)
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
    """Indent JSON, as OpenAI does for models only, for reading in a terminal; arrays of strings stay on one
    line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return Response(TEXTS.sub(_on_one_line, text), media_type="application/json")


def _on_one_line(found: re.Match[str]) -> str:
    return json.dumps(json.loads(found[0]), ensure_ascii=False)


async def _pull_events(waiting: PullSubscription, registry: Registry) -> AsyncGenerator[bytes | None]:
    """Yield the progress of a pull whenever it changes, then its completion."""
    before: Progress | None = None
    async with aclosing(waiting.steps()) as steps:
        async for progress in steps:
            yield data(_step(waiting.name, progress)) if progress and progress != before else None
            before = progress
    await registry.rescan()
    yield data(_done(waiting)) + DONE


@router.post("/v1/models/{model:path}")
async def pull(request: Request, model: str) -> Response:
    """Pull a model of the catalog or a repository of the hub."""
    request.state.keys.check_admin(request.headers)
    streamed = Fields(request.query_params.multi_items()).flag("stream", True)
    pulls: Pulls = request.state.pulls
    registry: Registry = request.state.registry
    async with AsyncExitStack() as held:
        waiting = await pulls.subscribe(model)
        held.callback(waiting.close)
        if streamed:
            events = _pull_events(waiting, registry)
            return HeartbeatResponse(events, SERVER_SENT_EVENTS, waiting, held.pop_all())
        async with ended_with_client(request.receive, waiting):
            async for _ in waiting.steps():
                pass
        await registry.rescan()
        return JSONResponse(_done(waiting))


def _step(name: str, progress: Progress) -> Json:
    return _event(name, progress.state, progress) | {"file": progress.file}


def _done(waiting: PullSubscription) -> Json:
    return _event(waiting.name, "done", waiting.latest)


def _event(name: str, state: str, progress: Progress | None) -> Json:
    sizes = {"done_bytes": progress.done, "total_bytes": progress.total} if progress else {}
    return {"type": "sotto.pull", "model": name, "state": state, **sizes}
