"""POST /v1/audio/transcriptions/render: renders a transcript, original or edited, as text, subtitles or JSON."""

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.forms import SUBTITLE_FIELDS
from server.api.gate.upload_pace import Pace
from server.api.json_body import JsonBodies
from server.api.openapi.declarations import PLAIN_TEXT, Json, errors, ok, operation_id, schema_of
from server.api.openapi.parameters import PARAMETERS
from server.api.posted_transcript import PostedTranscript, parse_posted
from server.formats.answers import Answer
from server.formats.render import render
from server.settings import Settings

HELD = 4  # limit of all bodies in memory, in multiples of the largest body
AT_ONCE = 2  # concurrent renders; more threads would only compete with each other and the event loop

router = APIRouter(generate_unique_id_function=operation_id)


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


def _body() -> Json:
    """Describe the body, with the subtitle fields as the form's table has them."""
    schema = schema_of(PostedTranscript, "validation")
    fields = {each.name: each.described_schema for each in PARAMETERS if each.name in SUBTITLE_FIELDS}
    schema["$defs"][PostedTranscript.__name__]["properties"] |= fields
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/v1/audio/transcriptions/render",
    openapi_extra=_body(),
    responses={
        **ok(Answer, description="As the response of a transcription in that format.", content=PLAIN_TEXT),
        **errors(400, 401, 408, 413, 500, 503),
    },
)
async def render_transcript(request: Request) -> Response:
    """Render a transcript, original or edited, as subtitles, text or JSON; without audio."""
    renderer: Renderer = request.state.renderer
    content_type, body = await renderer.render(request)
    return Response(body, headers={"content-type": content_type})
