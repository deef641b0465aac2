"""POST /v1/audio/transcriptions and /translations: transcribe an upload in the requested format."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.errors import ErrorResponse
from server.api.forms import parse_form
from server.api.gate.admission import Ticket
from server.api.heartbeat import ended_with_client
from server.api.openapi.request_bodies import form
from server.api.openapi.responses import MODEL, ON_ALL, PLAIN_TEXT, Responses, errors, events, ok
from server.api.streaming import event_stream, heartbeat_json
from server.api.uploads import on_disk, read_form
from server.formats.answers import (
    JsonTranscription,
    JsonTranslation,
    TextEvent,
    VerboseTranscription,
    VerboseTranslation,
)
from server.formats.render import FORMATS, JSON, render
from server.settings import Settings
from server.transcript import Task
from server.transcription.pipeline import Pipeline

router = APIRouter()


def _responses(model: Any) -> Responses:
    """Return every response; `response_format` and `stream` choose the content type."""
    text = (
        "The text. `json` and `verbose_json` come as JSON; `text`, `srt` and `vtt` as plain text; with `stream`, "
        "events: `data:` lines, `data: [DONE]` the last of them, and comments to keep it alive."
    )
    content = PLAIN_TEXT | events(TextEvent | ErrorResponse)
    return {
        **ok(model, description=text, headers=ON_ALL | MODEL, content=content),
        **errors(400, 401, 404, 408, 413, 429, 500, 503),
    }


@router.post(
    "/v1/audio/transcriptions",
    operation_id="createTranscription",
    openapi_extra=form(),
    responses=_responses(VerboseTranscription | JsonTranscription),
)
async def create_transcription(request: Request) -> Response:
    """Transcribe a recording."""
    return await _answer(request, "transcribe")


@router.post(
    "/v1/audio/translations",
    operation_id="createTranslation",
    openapi_extra=form(),
    responses=_responses(VerboseTranslation | JsonTranslation),
)
async def create_translation(request: Request) -> Response:
    """Translate a recording into English; `language` is the recording's."""
    return await _answer(request, "translate")


async def _answer(request: Request, task: Task) -> Response:
    settings: Settings = request.state.settings
    pipeline: Pipeline = request.state.pipeline
    async with AsyncExitStack() as held:
        form = await read_form(request)
        held.push_async_callback(form.close)
        upload, options = parse_form(form, settings, task)
        ticket: Ticket = request.state.ticket
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
