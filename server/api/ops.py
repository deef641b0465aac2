"""GET /health: whether the server works, for people, containers and load balancers. Needs no key."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from server import __version__
from server.registry import Registry

router = APIRouter()


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Answers at once, whatever runs."""
    registry: Registry = request.state.registry
    stats = registry.default.engine.stats()
    queue = {"queued_windows": stats.queued, "running_windows": stats.running}
    return JSONResponse({"status": "ok", "version": __version__, "model": registry.default.name, **queue})
