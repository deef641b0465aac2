"""POST /v1/models/{id}: a model comes from the hub, and events tell how far it is. Takes an admin key."""

from contextlib import AsyncExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.api.fields import Fields
from server.api.heartbeat import COMMENT, DONE, EVENTS, HEARTBEAT_S, Gradual, data, ended_with_client, error_event
from server.errors import SottoError
from server.formats.render import Json
from server.models.progress import Progress
from server.models.pulls import Pulls, Waiting
from server.pool.registry import Registry

router = APIRouter()


class PullEvents(Gradual):
    """Tells how far a pull is whenever that has changed, and last that it is done."""

    content_type = EVENTS
    filler = COMMENT

    def __init__(
        self, waiting: Waiting, registry: Registry, held: AsyncExitStack, *, silence_s: float = HEARTBEAT_S
    ) -> None:
        super().__init__(waiting, held, silence_s=silence_s)
        self._waiting = waiting
        self._registry = registry

    async def _tell(self) -> None:
        before: Progress | None = None
        async for progress in self._waiting.steps():
            if progress and progress != before:
                await self._write(data(_step(self._waiting.name, progress)))
            else:
                await self._fill()
            before = progress
        await self._registry.rescan()
        await self._write(data(_done(self._waiting)) + DONE)

    def _error(self, error: SottoError) -> bytes:
        return error_event(error)


@router.post("/v1/models/{model:path}")
async def pull(request: Request, model: str) -> Response:
    """Pull a model of the catalogue or a repository of the hub."""
    request.state.keys.check_admin(request.headers)
    streamed = Fields(request.query_params.multi_items()).flag("stream", True)
    pulls: Pulls = request.state.pulls
    registry: Registry = request.state.registry
    async with AsyncExitStack() as held:
        waiting = await pulls.join(model)
        held.callback(waiting.leave)
        if streamed:
            return PullEvents(waiting, registry, held.pop_all())
        async with ended_with_client(request.receive, waiting):
            async for _ in waiting.steps():
                pass
        await registry.rescan()
        return JSONResponse(_done(waiting))


def _step(name: str, progress: Progress) -> Json:
    return _event(name, progress.state, progress) | {"file": progress.file}


def _done(waiting: Waiting) -> Json:
    return _event(waiting.name, "done", waiting.latest)


def _event(name: str, state: str, progress: Progress | None) -> Json:
    sizes = {"done_bytes": progress.done, "total_bytes": progress.total} if progress else {}
    return {"type": "sotto.pull", "model": name, "state": state, **sizes}
