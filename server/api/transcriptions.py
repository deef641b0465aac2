"""POST /v1/audio/transcriptions: an upload in, its text in the format that was asked for out."""

import asyncio
import contextlib

from fastapi import APIRouter
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from server.api.forms import parse_transcription
from server.errors import Cancelled, InvalidRequest, UndecodableAudio
from server.formats import render
from server.options import UploadFd
from server.pipeline import Pipeline, Transcription
from server.transcript import Transcript

MAX_FILES = 8
MAX_FIELDS = 200
MAX_TEXT_BYTES = 4 << 20  # a text part, held in memory; ten seconds of reference audio as a data URL exceed 1 MiB

router = APIRouter()


@router.post("/v1/audio/transcriptions")
async def transcribe(request: Request) -> Response:
    """Transcribe an uploaded recording."""
    _check_content_type(request)
    form = await _form(request)
    try:
        upload, options = parse_transcription(form, request.state.settings)
        pipeline: Pipeline = request.state.pipeline
        transcription = pipeline.transcribe(await _on_disk(upload), options)
        try:
            transcript = await _unless_client_leaves(request, transcription)
        finally:
            await transcription.close()
    finally:
        await form.close()
    # Tens of thousands of words are a few hundred milliseconds of formatting: not on the loop.
    content_type, body = await asyncio.to_thread(render, transcript, options)
    return Response(body, headers={"content-type": content_type})


def _check_content_type(request: Request) -> None:
    """Starlette would take any other body for an empty form."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "multipart/form-data":
        raise InvalidRequest(
            f"Invalid Content-Type header ({given[:100] or 'none'}), expected multipart/form-data. "
            "(HINT: If you're using curl, you can pass -F instead of -d.)"
        )


async def _form(request: Request) -> FormData:
    """The parsed form; its files lie on disk or, below a megabyte, in memory. To be closed."""
    try:
        return await request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_TEXT_BYTES)
    except (UnicodeError, LookupError) as error:  # a charset that there isn't, or that the text isn't in
        raise InvalidRequest(f"Could not parse multipart form: {error}") from error


async def _on_disk(upload: UploadFile) -> UploadFd:
    """A descriptor of the upload; one of under a megabyte still lies in memory and is written out first."""
    if not upload.size:
        raise UndecodableAudio("It is empty.")
    descriptor = await asyncio.to_thread(upload.file.fileno)  # a spooled file moves to disk to have one
    await asyncio.to_thread(upload.file.flush)
    return UploadFd(descriptor, upload.size or 0, upload.filename or "")


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
