"""POST /v1/audio/transcriptions/render: renders a transcript, original or edited, as text, subtitles or JSON."""

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.gate.upload_pace import Pace
from server.api.json_body import JsonBodies
from server.api.openapi.request_bodies import posted_transcript
from server.api.openapi.responses import PLAIN_TEXT, errors, ok
from server.api.posted_transcript import parse_posted
from server.formats.answers import Answer
from server.formats.render import render
from server.settings import Settings

HELD = 4  # limit of all bodies in memory, in multiples of the largest body
AT_ONCE = 2  # concurrent renders; more threads would only compete with each other and the event loop

router = APIRouter()


class Renderer:
    """Renders posted transcripts in threads."""

    def __init__(self, settings: Settings) -> None:
        pace = Pace(settings.min_upload_bytes_per_second, settings.upload_timeout_seconds)
        largest = settings.max_render_bytes
        self._settings = settings
        self._bodies = JsonBodies(largest, HELD * largest, pace, setting="SOTTO_MAX_RENDER_MB")
        self._threads = asyncio.Semaphore(AT_ONCE)

    async def render(self, request: Request) -> tuple[str, bytes]:
        """Return the content type and body of the response."""
        async with self._bodies.read(request) as body, self._threads:
            return await asyncio.to_thread(self._rendered, body)

    def _rendered(self, body: bytes) -> tuple[str, bytes]:
        transcript, options = parse_posted(body, self._settings)
        return render(transcript, options)


@router.post(
    "/v1/audio/transcriptions/render",
    operation_id="renderTranscript",
    openapi_extra=posted_transcript(),
    responses={
        **ok(Answer, description="The same as a transcription in that format.", content=PLAIN_TEXT),
        **errors(400, 401, 408, 413, 500, 503),
    },
)
async def render_transcript(request: Request) -> Response:
    """Render a transcript, as it was or edited, as subtitles, text or JSON; takes no audio."""
    renderer: Renderer = request.state.renderer
    content_type, body = await renderer.render(request)
    return Response(body, headers={"content-type": content_type})
