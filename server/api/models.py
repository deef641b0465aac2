"""GET /v1/models and /v1/models/{id}: what a client's menu shows. DELETE is understood and refused."""

import json

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.errors import PermissionDenied
from server.registry import Registry

OWNER = "sotto"

router = APIRouter()


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """List every id that requests may name, aliases included."""
    registry: Registry = request.state.registry
    return _pretty({"object": "list", "data": [_entry(registry, name) for name in registry.ids()]})


@router.get("/v1/models/{model:path}")
async def model(request: Request, model: str) -> Response:
    """Describe one model; ids with a slash come encoded or bare."""
    return _pretty(_entry(request.state.registry, model))


@router.delete("/v1/models/{model:path}")
async def delete(request: Request, model: str) -> Response:
    """Refuse to delete a model: its files are the operator's."""
    request.state.registry.find(model)
    raise PermissionDenied(f"The model '{model}' can't be deleted through this server.", param="model")


def _entry(registry: Registry, name: str) -> dict[str, object]:
    state = registry.state(registry.find(name))
    entry = {
        "id": name,
        "object": "model",
        "created": state.created,
        "owned_by": OWNER,
        "state": state.presence,
        "size": state.size_bytes,
        "languages": state.languages,
    }
    return entry | ({"reason": state.reason} if state.reason else {})


def _pretty(content: dict[str, object]) -> Response:
    """As OpenAI writes models, and nothing else: people read these in a terminal."""
    return Response(json.dumps(content, indent=2, ensure_ascii=False), media_type="application/json")
