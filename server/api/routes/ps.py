"""/api/ps: the models in memory. Loading and unloading need an admin key, reading an ordinary one."""

import asyncio
import math
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from server.api.fields import Fields
from server.api.forms import keep_alive_s
from server.api.heartbeat import ended_with_client
from server.errors import Cancelled
from server.formats.render import Json
from server.pool.registry import Registry
from server.stats import ModelState

router = APIRouter()


@router.get("/api/ps")
async def running(request: Request) -> JSONResponse:
    """List the loaded models, and how busy each is."""
    registry: Registry = request.state.registry
    models = [_entry(state) for state in registry.states() if _is_running(state)]
    return JSONResponse({"time": round(time.time()), "models": models})


@router.post("/api/ps/{model:path}")
async def load(request: Request, model: str) -> JSONResponse:
    """Load a model, and respond once it is loaded; `keep_alive` sets how long it stays."""
    request.state.keys.check_admin(request.headers)
    registry: Registry = request.state.registry
    return JSONResponse(_entry(await registry.load(model, keep_alive_s(_query(request)))))


@router.delete("/api/ps/{model:path}")
async def unload(request: Request, model: str) -> JSONResponse:
    """Unload a model, and respond once its memory is free; with `wait`, after the requests that use it."""
    request.state.keys.check_admin(request.headers)
    registry: Registry = request.state.registry
    wait_s = math.inf if _query(request).flag("wait", False) else 0.0
    unloading = asyncio.create_task(registry.unload(model, wait_s=wait_s))
    async with ended_with_client(request.receive, unloading):
        await asyncio.wait([unloading])
    if unloading.cancelled():
        raise Cancelled("The client disconnected.")
    return JSONResponse(_entry(unloading.result()))


def _query(request: Request) -> Fields:
    return Fields(request.query_params.multi_items())


def _is_running(state: ModelState) -> bool:
    """Return True if the model is loading or loaded, or has failed after loading: then it still has a device."""
    return state.presence in ("loading", "loaded") or bool(state.device)


def _entry(state: ModelState) -> Json:
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
        "last_used": state.last_used and round(state.last_used),
        "expires_at": state.expires_at and round(state.expires_at),
    }
