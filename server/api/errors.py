"""The one place where errors become responses, always in OpenAI's envelope."""

import re
from typing import Annotated

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from typing_extensions import TypedDict

from server.api.paths import request_line, suggestion
from server.errors import Cancelled, InvalidRequest, MethodNotAllowed, NotFound, SottoError
from server.formats.answers import Doc


class ErrorDetails(TypedDict):
    message: Annotated[str, Doc("what was wrong and what is allowed")]
    type: Annotated[str, Doc("`invalid_request_error`, `server_error` or `requests`")]
    param: Annotated[str | None, Doc("the invalid field")]
    code: Annotated[str | None, Doc("machine-readable code")]


class ErrorResponse(TypedDict):
    """Every error."""

    error: ErrorDetails


def error_response(error: SottoError) -> JSONResponse:
    """Return the response that reports `error` to a client."""
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    else:  # OpenAI's clients would otherwise retry twice, sending the whole upload again for nothing
        headers["x-should-retry"] = "false"
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    return JSONResponse(error_body(error), error.status, headers)


def error_body(error: SottoError) -> ErrorResponse:
    """Return OpenAI's error envelope."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def fault() -> SottoError:
    """Return the error for a fault of the server. It gives no details; the traceback goes to the log."""
    return SottoError("The server had an error while processing your request. Sorry about that!")


def add_handlers(app: FastAPI) -> None:
    """Make `app` report every failure in the envelope."""
    app.add_exception_handler(SottoError, _known)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unknown)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SottoError)  # noqa: S101 - registered for this class only
    return error_response(error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    """Answer Starlette's own errors: unknown paths, wrong methods, forms that can't be parsed."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    if error.status_code == 404:
        return error_response(NotFound(f"Invalid URL ({_request_line(request)}). {_suggestion(request)}"))
    if error.status_code == 405:
        allow = _allowed(request) or (error.headers or {}).get("Allow", "")
        text = f"Not allowed to {_request_line(request)}. This server has {_paths(request.app)}."
        return error_response(MethodNotAllowed(text, allow=allow))
    return error_response(InvalidRequest(f"Could not parse multipart form: {error.detail}"))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Answer FastAPI's own validation, of query parameters: its first complaint, without its input and context."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    first = error.errors()[0]
    name = str(first["loc"][-1])
    text = f"Invalid value for '{name}': {first['msg']}."
    return error_response(InvalidRequest(text, param=name, code="invalid_value"))


async def _gone(request: Request, error: Exception) -> JSONResponse:
    """End the request without a traceback; the client is gone and reads no response."""
    return error_response(Cancelled("The client closed the connection."))


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    """Answer an unexpected error. Starlette raises it again: it is logged, and uvicorn closes the connection."""
    answer = error_response(fault())
    answer.headers["connection"] = "close"
    return answer


def _request_line(request: Request) -> str:
    return " ".join(request_line(request.scope))


def _allowed(request: Request) -> str:
    """List the methods of a path of the API. Starlette names those of one of its routes."""
    described = request.app.openapi()["paths"].items()
    path = request.scope["path"]
    found = (methods for name, methods in described if re.fullmatch(name.replace("{model}", ".+"), path))
    return ", ".join(method.upper() for methods in found for method in methods)


def _suggestion(request: Request) -> str:
    """Suggest the path that the client meant, or list the paths that exist."""
    if path := suggestion(request.url.path, request.app.openapi()["paths"]):
        return f"Did you mean {path}? The base URL of a client is the address of this server followed by /v1."
    return f"This server only transcribes speech. It has {_paths(request.app)}."


def _paths(app: FastAPI) -> str:
    known = (f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods)
    return ", ".join(known)
