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
from server.api.openapi.declarations import MODEL, ON_ALL, PLAIN_TEXT, Json, errors, events, ok, operation_id
from server.api.openapi.parameters import form
from server.api.streaming import event_stream, heartbeat_json
from server.api.uploads import on_disk, read_form
from server.formats import answers
from server.formats.render import FORMATS, JSON, render
from server.settings import Settings
from server.transcript import Task
from server.transcription.pipeline import Pipeline

router = APIRouter(generate_unique_id_function=operation_id)


def _declaration(model: Any) -> Json:
    """Describe the form and every response; `response_format` and `stream` choose the content type."""
    text = (
        "The text. `json` and `verbose_json` come as JSON; `text`, `srt` and `vtt` as plain text; with `stream`, "
        "server-sent events, ended by `data: [DONE]`, with comments as heartbeats."
    )
    content = PLAIN_TEXT | events(answers.TextEvent | ErrorResponse)
    responses = ok(model, description=text, headers=ON_ALL | MODEL, content=content)
    return {"openapi_extra": form(), "responses": responses | errors(400, 401, 404, 408, 413, 429, 500, 503)}


@router.post("/v1/audio/transcriptions", **_declaration(answers.VerboseTranscription | answers.JsonTranscription))
async def create_transcription(request: Request) -> Response:
    """Transcribe a recording."""
    return await _answer(request, "transcribe")


@router.post("/v1/audio/translations", **_declaration(answers.VerboseTranslation | answers.JsonTranslation))
async def create_translation(request: Request) -> Response:
    """Translate a recording into English; `language` is that of the recording."""
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
