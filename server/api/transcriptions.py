"""POST /v1/audio/transcriptions and /translations: an upload in, its text in the format asked for out."""

import asyncio
import contextlib

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from server.api.forms import parse_form
from server.api.uploads import on_disk, read_form
from server.errors import Cancelled, InvalidRequest
from server.formats import render
from server.pipeline import Pipeline, Transcription
from server.transcript import Task, Transcript

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
    form = await read_form(request)
    try:
        upload, options = parse_form(form, request.state.settings, task)
        if options.stream:
            # A JSON answer would look to OpenAI's SDKs like a stream without a word in it.
            raise InvalidRequest(
                "Streaming is not supported by this server yet: leave 'stream' out.",
                param="stream",
                code="unsupported_value",
            )
        pipeline: Pipeline = request.state.pipeline
        transcription = pipeline.transcribe(await on_disk(upload), options)
        try:
            transcript = await _unless_client_leaves(request, transcription)
        finally:
            await transcription.close()
    finally:
        await form.close()
    # Tens of thousands of words are a few hundred milliseconds of formatting: not on the loop.
    content_type, body = await asyncio.to_thread(render, transcript, options)
    return Response(body, headers={"content-type": content_type})


async def _unless_client_leaves(request: Request, transcription: Transcription) -> Transcript:
    """The result; or `Cancelled` as soon as the client has closed its connection."""
    leaving = asyncio.create_task(_client_leaves(request))
    result = asyncio.create_task(transcription.result())
    try:
        await asyncio.wait([leaving, result], return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Cancelled("The client closed the connection.")
        return result.result()
    finally:
        for task in (leaving, result):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _client_leaves(request: Request) -> None:
    """Return when the client is gone. The form has read the body, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
