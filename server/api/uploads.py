"""Reads the body of a request: a form within limits, its file on disk. `forms` interprets the fields."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import unquote_to_bytes

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from server.api.gate.admission import Ticket
from server.errors import InvalidRequest, Unavailable, UndecodableAudio
from server.options import UploadFd
from server.system.scratch import ScratchFolder

MAX_FILES = 8
MAX_FIELDS = 200
MAX_TEXT_BYTES = 16 << 20  # all text parts, held in memory; must allow four reference clips of 10 s as data URLs

# Some of Python's charsets take minutes to decode a few megabytes, and some yield lone surrogates.
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"})

# Not inside another parameter's quotes. Possessive, so that it doesn't backtrack.
EXTENDED_NAME = re.compile(
    rb"""(?:[^"]|"(?:[^"\\]|\\.)*+")*?;\s*filename\*\s*=\s*"?[\w-]+'[\w-]*'([^\s;"]+)""", re.IGNORECASE
)


async def read_form(request: Request) -> FormData:
    """Return the parsed form, which the caller closes; its files are on disk or, if small, in memory.

    Raises `InvalidRequest`, and `Unavailable` if the disk, or memory for text, is full.
    """
    _check_content_type(request.headers.get("content-type", ""))
    parser = _BoundedParser(request, request.state.media.scratch, request.state.ticket)
    async with aclosing(parser.stream):
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise InvalidRequest(f"Could not parse multipart form: {error.message}") from error
        except OSError as error:
            raise _full(error) from error
    named = request.path_params.get("model")  # in the path of Azure's clients, which may omit the field
    return FormData([*form.multi_items(), ("model", named)]) if named and not form.get("model") else form


async def on_disk(upload: UploadFile) -> UploadFd:
    """Return a descriptor of the upload; a small one is written to disk first."""
    if not upload.size:
        raise UndecodableAudio("It is empty.")
    try:
        descriptor = await asyncio.to_thread(upload.file.fileno)  # a spooled file moves to disk to get a descriptor
        await asyncio.to_thread(upload.file.flush)
    except OSError as error:
        raise _full(error) from error
    return UploadFd(descriptor, upload.size, upload.filename or "")


class _BoundedParser(MultiPartParser):
    """Starlette's parser with files in `scratch`, limits on the text of this form and of all forms together, and
    an error for a truncated form."""

    def __init__(self, request: Request, scratch: ScratchFolder, ticket: Ticket) -> None:
        super().__init__(
            request.headers,
            self._to_the_end(request.stream()),
            max_files=MAX_FILES,
            max_fields=MAX_FIELDS,
            max_part_size=MAX_TEXT_BYTES,
        )
        self._scratch = scratch
        self._ticket = ticket
        self._text_left = MAX_TEXT_BYTES
        self._ended = False

    def on_headers_finished(self) -> None:
        given = self._current_part.content_disposition
        if given and (name := _extended_name(given)):
            self._current_part.content_disposition = given + b'; filename="' + name + b'"'
        super().on_headers_finished()
        if upload := self._current_part.file:
            upload.file.close()
            upload.file = self._files_to_close_on_error[-1] = self._scratch.small_file()  # type: ignore[assignment]

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if self._current_part.file is None:
            self._ticket.keep_text(end - start)

    def on_part_end(self) -> None:
        super().on_part_end()
        _, value = self.items[-1]
        self._text_left -= len(value) if isinstance(value, str) else 0
        if self._text_left < 0:
            raise MultiPartException(f"Its text parts exceed {MAX_TEXT_BYTES} bytes.")

    def on_end(self) -> None:
        self._ended = True

    async def _to_the_end(self, body: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async with aclosing(body):
            async for chunk in body:
                yield chunk
        if not self._ended:  # raised here, so that the parser closes its files
            raise MultiPartException("It is truncated.")


def _extended_name(disposition: bytes) -> bytes:
    """Return the file name of a part that only has `filename*=UTF-8''...`, safe to quote; else nothing.

    RFC 7578 forbids that parameter (RFC 5987's) in forms, so the parser ignores it; some clients send no other.
    """
    found = EXTENDED_NAME.match(disposition)
    if not found or b"filename" in parse_options_header(disposition)[1]:
        return b""
    return unquote_to_bytes(found[1]).replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _full(error: OSError) -> Unavailable:
    return Unavailable(f"The upload can't be stored: {error.strerror}.")


def _check_content_type(given: str) -> None:
    """Reject other content types, which Starlette would parse as an empty form."""
    kind, parameters = parse_options_header(given)
    if kind != b"multipart/form-data":
        raise InvalidRequest(
            f"Invalid Content-Type header ({given[:100] or 'none'}), expected multipart/form-data. "
            "(HINT: If you're using curl, you can pass -F instead of -d.)"
        )
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1").lower()
    if charset not in CHARSETS:
        raise InvalidRequest(f"Could not parse multipart form: its charset is {charset[:40]!r}, not UTF-8.")
