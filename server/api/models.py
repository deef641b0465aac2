"""GET /v1/models and /v1/models/{id}: what a client's menu shows."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from server.registry import Registry

OWNER = "sotto"

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> JSONResponse:
    """List every id that requests may name, aliases included."""
    registry: Registry = request.state.registry
    return JSONResponse({"object": "list", "data": [_entry(registry, name) for name in registry.ids()]})


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> JSONResponse:
    """Describe one model; ids with a slash come encoded or bare."""
    return JSONResponse(_entry(request.state.registry, model))


def _entry(registry: Registry, name: str) -> dict[str, object]:
    served = registry.find(name)
    return {"id": name, "object": "model", "created": served.created, "owned_by": OWNER}
