"""/api/ps: the models in memory. Loading and unloading need an admin key, reading an ordinary one."""

import asyncio
import math
import time
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse
from typing_extensions import TypedDict

from server.api.forms import keep_alive_s
from server.api.heartbeat import ended_with_client
from server.api.openapi.declarations import ModelId, errors, ok, operation_id
from server.errors import Cancelled, ModelBroken
from server.formats.answers import Doc
from server.pool.registry import Registry
from server.stats import ModelState, Presence

KeepAlive = Annotated[str, Query(description="as the field of transcriptions")]
Wait = Annotated[bool, Query(description="`true`: wait until no request uses it, instead of 409")]

router = APIRouter(generate_unique_id_function=operation_id)


class RunningModel(TypedDict):
    """A model that is loaded or being loaded."""

    id: str
    state: Presence
    reason: Annotated[str | None, Doc("why it is not loaded")]
    device: Annotated[str | None, Doc("`cpu` or `cuda`; null while it isn't loaded")]
    compute_type: Annotated[str | None, Doc("CTranslate2's compute type; null while it isn't loaded")]
    memory_bytes: Annotated[int, Doc("RAM used by its processes")]
    estimated_bytes: Annotated[int, Doc("what counts against `SOTTO_MEMORY_BUDGET_MB`")]
    requests: Annotated[int, Doc("in progress, or waiting for it to load")]
    queued_windows: int
    running_windows: int
    last_used: Annotated[int | None, Doc("Unix time")]
    expires_at: Annotated[int | None, Doc("when it will be unloaded, Unix time; null: never, or in use")]


class RunningModels(TypedDict):
    time: Annotated[int, Doc("now, Unix time")]
    models: list[RunningModel]


@router.get("/api/ps", responses=ok(RunningModels) | errors(401, 429, 500))
async def list_running(request: Request) -> JSONResponse:
    """List the loaded models and how busy each is."""
    registry: Registry = request.state.registry
    states = registry.states(with_paths=request.state.keys.is_admin(request.headers))
    models = [_entry(state) for state in states if _is_running(state)]
    answer: RunningModels = {"time": round(time.time()), "models": models}
    return JSONResponse(answer)


@router.post("/api/ps/{model:path}", responses=ok(RunningModel) | errors(400, 401, 403, 404, 429, 500, 503))
async def load_model(request: Request, model: ModelId, keep_alive: KeepAlive = "") -> JSONResponse:
    """Load a model, and respond once it is loaded; requires an admin key."""
    request.state.keys.check_admin(request.headers)
    registry: Registry = request.state.registry
    try:
        return JSONResponse(_entry(await registry.load(model, keep_alive_s(keep_alive))))
    except ModelBroken as error:
        raise error.in_full() from error


@router.delete("/api/ps/{model:path}", responses=ok(RunningModel) | errors(400, 401, 403, 404, 409, 429, 500))
async def unload_model(request: Request, model: ModelId, wait: Wait = False) -> JSONResponse:
    """Unload a model, and respond once its memory is free; requires an admin key."""
    request.state.keys.check_admin(request.headers)
    registry: Registry = request.state.registry
    unloading = asyncio.create_task(registry.unload(model, wait_s=math.inf if wait else 0.0))
    async with ended_with_client(request.receive, unloading):
        await asyncio.wait([unloading])
    if unloading.cancelled():
        raise Cancelled("The client disconnected.")
    return JSONResponse(_entry(unloading.result()))


def _is_running(state: ModelState) -> bool:
    """Return True if the model is loading or loaded, or has failed after loading: then it still has a device."""
    return state.presence in ("loading", "loaded") or bool(state.device)


def _entry(state: ModelState) -> RunningModel:
    return {
        "id": state.name,
        "state": state.presence,
        "reason": state.reason or None,
        "device": state.device or None,
        "compute_type": state.compute_type or None,
        "memory_bytes": state.memory_bytes,
        "estimated_bytes": state.estimated_bytes,
        "requests": state.requests,
        "queued_windows": state.queued,
        "running_windows": state.running,
        "last_used": None if state.last_used is None else round(state.last_used),
        "expires_at": None if state.expires_at is None else round(state.expires_at),
    }
