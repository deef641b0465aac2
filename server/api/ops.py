"""GET /health, which needs no key, and GET /metrics: whether the server works, and how hard."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server import __version__
from server.metrics import CONTENT_TYPE, Metrics
from server.registry import Registry

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Answers at once, whatever runs."""
    registry: Registry = request.state.registry
    stats = registry.default.engine.stats()
    queue = {"queued_windows": stats.queued, "running_windows": stats.running}
    return JSONResponse({"status": "ok", "version": __version__, "model": registry.default.name, **queue})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    series: Metrics = request.state.metrics
    return Response(series.render(), headers={"content-type": CONTENT_TYPE})
