"""Models, /v1/models and /v1/models/{id}: GET lists them, as clients' menus show them.

POST pulls a model from the hub and streams its progress; DELETE removes it. Both need an admin key.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Literal, NotRequired

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from server.api.errors import ErrorResponse
from server.api.heartbeat import DONE, SERVER_SENT_EVENTS, HeartbeatResponse, data, ended_with_client
from server.api.openapi.declarations import ModelId, errors, events, ok, operation_id
from server.errors import PermissionDenied
from server.formats.answers import Doc
from server.models.installed import check_removable, installed_in, remove
from server.models.progress import Progress, PullState
from server.models.pulls import Pulls, PullSubscription
from server.pool.registry import Registry
from server.settings import Settings
from server.stats import Presence

Streams = Annotated[bool, Query(description="`false`: a single response, at the end")]
PullEventState = Literal[PullState, "done"]

OWNER = "sotto"
# A JSON array of strings only, as `indent` writes it. A JSON string contains no line break.
TEXTS = re.compile(r'\[\n(?: +"[^\n]*",?\n)+ +\](?=,?\n)')

PULLED = (
    "Progress events, several times per second; the last one reports success, followed by `data: [DONE]`, or the "
    "error. Without a stream only the last one."
)

router = APIRouter(generate_unique_id_function=operation_id)


class ModelEntry(TypedDict):
    id: str
    object: Literal["model"]
    created: Annotated[int, Doc("Unix time")]
    owned_by: str
    root: Annotated[str, Doc("the model's own id, of which this one may be an alias")]
    state: Annotated[Presence, Doc("`available`: loaded on first use")]
    size: Annotated[int, Doc("bytes on disk")]
    languages: NotRequired[Annotated[list[str], Doc("language codes; in lists only if `id` equals `root`")]]
    demo: NotRequired[Annotated[Literal[True], Doc("it only knows digits and a few sentences")]]
    reason: NotRequired[Annotated[str, Doc("why it is loading or broken")]]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelEntry]


class DeletedModel(TypedDict):
    id: str
    object: Literal["model"]
    deleted: Literal[True]


class PullEvent(TypedDict):
    """Progress of a download."""

    type: Literal["sotto.pull"]
    model: str
    state: PullEventState
    done_bytes: NotRequired[Annotated[int, Doc("of all files; absent if nothing had to be pulled")]]
    total_bytes: NotRequired[int]
    file: NotRequired[Annotated[str, Doc("the current file, until all are done")]]


@router.get("/v1/models", responses=ok(ModelList) | errors(401, 429, 500))
async def list_models(request: Request) -> Response:
    """List the model ids that requests may use, aliases included."""
    registry: Registry = request.state.registry
    is_admin = request.state.keys.is_admin(request.headers)
    entries = [_entry(registry, name, is_admin=is_admin) for name in registry.ids()]
    for entry in entries:
        if entry["root"] != entry["id"]:  # an alias; the model's own entry lists the languages, up to a hundred
            del entry["languages"]
    return _pretty({"object": "list", "data": entries})


@router.get("/v1/models/{model:path}", responses=ok(ModelEntry) | errors(401, 404, 429, 500))
async def retrieve_model(request: Request, model: ModelId) -> Response:
    """Describe one model."""
    is_admin = request.state.keys.is_admin(request.headers)
    return _pretty(_entry(request.state.registry, model, is_admin=is_admin))


@router.delete("/v1/models/{model:path}", responses=ok(DeletedModel) | errors(401, 403, 404, 409, 429, 500))
async def delete_model(request: Request, model: ModelId) -> Response:
    """Delete a model's files; requires an admin key."""
    registry: Registry = request.state.registry
    slot = registry.named(model)
    request.state.keys.check_admin(request.headers)
    if slot is registry.default:
        raise PermissionDenied(f"'{model}' is the default model, which can't be deleted.", param="model")
    settings: Settings = request.state.settings
    files = await asyncio.to_thread(installed_in, slot.known.folder, settings.models_dir, request.state.catalog)
    check_removable(files)
    async with registry.removing(slot):
        await asyncio.to_thread(remove, files)
    return _pretty({"id": model, "object": "model", "deleted": True})


def _entry(registry: Registry, name: str, *, is_admin: bool) -> ModelEntry:
    state = registry.state(registry.find(name), with_paths=is_admin)
    entry: ModelEntry = {
        "id": name,
        "object": "model",
        "created": state.created,
        "owned_by": OWNER,
        "root": state.name,
        "state": state.presence,
        "size": state.size_bytes,
        "languages": list(state.languages),
    }
    if state.demo:
        entry["demo"] = True
    if state.reason:
        entry["reason"] = state.reason
    return entry


def _pretty(content: ModelList | ModelEntry | DeletedModel) -> Response:
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


@router.post(
    "/v1/models/{model:path}",
    responses={
        **ok(PullEvent, description=PULLED, content=events(PullEvent | ErrorResponse)),
        **errors(400, 401, 403, 404, 409, 429, 500, 502, 507),
    },
)
async def pull_model(request: Request, model: ModelId, stream: Streams = True) -> Response:
    """Download a model of the catalog, or a repository of the hub; requires an admin key."""
    request.state.keys.check_admin(request.headers)
    pulls: Pulls = request.state.pulls
    registry: Registry = request.state.registry
    async with AsyncExitStack() as held:
        waiting = await pulls.subscribe(model)
        held.callback(waiting.close)
        if stream:
            events = _pull_events(waiting, registry)
            return HeartbeatResponse(events, SERVER_SENT_EVENTS, waiting, held.pop_all())
        async with ended_with_client(request.receive, waiting):
            async for _ in waiting.steps():
                pass
        await registry.rescan()
        return JSONResponse(_done(waiting))


def _step(name: str, progress: Progress) -> PullEvent:
    return {**_event(name, progress.state, progress), "file": progress.file}


def _done(waiting: PullSubscription) -> PullEvent:
    return _event(waiting.name, "done", waiting.latest)


def _event(name: str, state: PullEventState, progress: Progress | None) -> PullEvent:
    event: PullEvent = {"type": "sotto.pull", "model": name, "state": state}
    if progress:
        event["done_bytes"], event["total_bytes"] = progress.done, progress.total
    return event
