"""POST /v1/audio/transcriptions and /translations: transcribe an upload in the requested format."""

import asyncio
from contextlib import AsyncExitStack

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.forms import parse_form
from server.api.gate.admission import Ticket
from server.api.heartbeat import ended_with_client
from server.api.paths import request_line
from server.api.streaming import event_stream, heartbeat_json
from server.api.uploads import on_disk, read_form
from server.errors import NotFound
from server.formats.render import FORMATS, JSON, render
from server.settings import Settings
from server.transcript import Task
from server.transcription.pipeline import Pipeline

router = APIRouter()


@router.post("/v1/audio/transcriptions")
async def transcribe(request: Request) -> Response:
    """Transcribe an uploaded recording."""
    return await _answer(request, "transcribe")


@router.post("/v1/audio/translations")
async def translate(request: Request) -> Response:
    """Translate an uploaded recording into English."""
    return await _answer(request, "translate")


async def _answer(request: Request, task: Task) -> Response:
    settings: Settings = request.state.settings
    pipeline: Pipeline = request.state.pipeline
    async with AsyncExitStack() as held:
        ticket = _ticket(request)
        form = await read_form(request, ticket)
        held.push_async_callback(form.close)
        upload, options = parse_form(form, settings, task)
        ticket.model = pipeline.registry.find(options.model).name
        transcription = pipeline.transcribe(await on_disk(upload), options, deadline=ticket.deadline)
        held.push_async_callback(transcription.close)
        ticket.follow(transcription)
        if options.stream:
            return event_stream(transcription, options, held.pop_all())
        spaces_s = settings.json_heartbeat_seconds
        if spaces_s and FORMATS[options.response_format].content_type == JSON:
            return heartbeat_json(transcription, options, held.pop_all(), silence_s=spaces_s)
        async with ended_with_client(request.receive, transcription):
            transcript = await transcription.result()
    # Formatting tens of thousands of words takes a few hundred milliseconds: not on the event loop.
    content_type, body = await asyncio.to_thread(render, transcript, options)
    return Response(body, headers={"content-type": content_type})


def _ticket(request: Request) -> Ticket:
    """Return the request's place. Raises `NotFound` for a request that passed the gate as if it were another."""
    ticket: Ticket | None = getattr(request.state, "ticket", None)
    if ticket is None:
        raise NotFound(f"Invalid URL ({' '.join(request_line(request.scope))}): the request was not admitted.")
    return ticket
