"""GET /health and /ready, which need no key, and GET /metrics: the server's state and load."""

import asyncio
import os

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import __version__
from server.audio.media_decoder import MediaDecoder
from server.errors import Unavailable
from server.monitoring.memory import Group, MemoryReader
from server.monitoring.prometheus import CONTENT_TYPE, Metrics
from server.pool.registry import Registry

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Report that the server is alive; responds at once, whatever runs and whatever has failed."""
    registry: Registry = request.state.registry
    every = registry.stats().values()
    queue = {
        "queued_windows": sum(stats.queued for stats in every),
        "running_windows": sum(stats.running for stats in every),
    }
    return JSONResponse({"status": "ok", "version": __version__, "model": registry.default.name, **queue})


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Report whether a request would be served now; if not, 503 and why. Restarts media workers that exited."""
    registry: Registry = request.state.registry
    if reason := registry.not_ready_reason():
        raise Unavailable(reason)
    media: MediaDecoder = request.state.media
    if not media.is_ready:
        await asyncio.to_thread(media.wait_until_ready)
    return JSONResponse({"status": "ready", "model": registry.default.name})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' text format."""
    series: Metrics = request.state.metrics
    memory_reader: MemoryReader = request.state.memory_reader
    groups = _processes(request.state.registry, request.state.media)
    readings = await asyncio.to_thread(memory_reader.read, groups)
    return Response(series.render(readings), headers={"content-type": CONTENT_TYPE})


def _processes(registry: Registry, media: MediaDecoder) -> list[Group]:
    engines = [Group("engine", model, stats.pids) for model, stats in registry.stats().items()]
    return [Group("main", "", (os.getpid(),)), *engines, Group("media", "", media.stats().pids)]
