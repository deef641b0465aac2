"""GET /health and /ready, which need no key, and GET /metrics: the server's state and load."""

import asyncio
import os
from typing import Annotated, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from typing_extensions import TypedDict

from server import __version__
from server.api.openapi.declarations import NO_KEY, ON_ALL, errors, ok, operation_id
from server.audio.media_decoder import MediaDecoder
from server.errors import Unavailable
from server.formats.answers import Doc
from server.monitoring.memory import Group, MemoryReader
from server.monitoring.prometheus import CONTENT_TYPE, Metrics
from server.pool.registry import Registry

DefaultModel = Annotated[str, Doc("the default model")]

router = APIRouter(generate_unique_id_function=operation_id)


class Health(TypedDict):
    status: Literal["ok"]
    version: str
    model: DefaultModel
    queued_windows: int
    running_windows: int


class Readiness(TypedDict):
    status: Literal["ready"]
    model: DefaultModel


@router.get("/health", responses=ok(Health), openapi_extra=NO_KEY)
async def health(request: Request) -> JSONResponse:
    """Report that the server is running, its version and queue; never waits for the model."""
    registry: Registry = request.state.registry
    every = registry.stats().values()
    answer: Health = {
        "status": "ok",
        "version": __version__,
        "model": registry.default.name,
        "queued_windows": sum(stats.queued for stats in every),
        "running_windows": sum(stats.running for stats in every),
    }
    return JSONResponse(answer)


@router.get("/ready", responses=ok(Readiness) | errors(503), openapi_extra=NO_KEY)
async def ready(request: Request) -> JSONResponse:
    """Report whether requests can be served; if not, 503 with the reason."""
    registry: Registry = request.state.registry
    if reason := registry.not_ready_reason():
        raise Unavailable(reason)
    media: MediaDecoder = request.state.media
    if not media.is_ready:  # some of its processes have ended: they are started again
        await asyncio.to_thread(media.wait_until_ready)
    answer: Readiness = {"status": "ready", "model": registry.default.name}
    return JSONResponse(answer)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "Prometheus' text format.", "headers": ON_ALL}, **errors(401, 429, 500)},
)
async def metrics(request: Request) -> Response:
    """Return requests, queues, times, models and memory for Prometheus."""
    series: Metrics = request.state.metrics
    memory_reader: MemoryReader = request.state.memory_reader
    groups = _processes(request.state.registry, request.state.media)
    readings = await asyncio.to_thread(memory_reader.read, groups)
    return Response(series.render(readings), headers={"content-type": CONTENT_TYPE})


def _processes(registry: Registry, media: MediaDecoder) -> list[Group]:
    engines = [Group("engine", model, stats.pids) for model, stats in registry.stats().items()]
    return [Group("main", "", (os.getpid(),)), *engines, Group("media", "", media.stats().pids)]
