"""The means by which routes declare themselves for the OpenAPI document: names, responses, errors."""

from typing import Annotated, Any, Literal

from fastapi import Path
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from server.api.errors import ErrorResponse

Json = dict[str, Any]
Responses = dict[int | str, Json]

REF = "#/components/schemas/{model}"
NO_KEY: Json = {"security": []}

ModelId = Annotated[str, Path(description="A model id; slashes may be percent-encoded or not.")]

ERRORS = {
    400: "The request is invalid, or the file is not audio; `param` names the field.",
    401: "The key is missing or wrong.",
    403: "An admin key (`SOTTO_ADMIN_KEYS`) is required, or the server does not allow this at all.",
    404: "There is no such model or route.",
    408: "The upload is too slow.",
    409: "The model is in use, or another process is writing its files.",
    413: "The body is larger than `SOTTO_MAX_UPLOAD_MB`, or a posted transcript than `SOTTO_MAX_RENDER_MB`.",
    429: "This client has its share in progress, or sent many wrong keys; `Retry-After` says when to retry.",
    500: "An error inside the server; its log has the details.",
    502: "The model could not be downloaded; the next attempt resumes.",
    503: "The server is full or shutting down, or the model is not running; `Retry-After` says when to retry.",
    507: "The disk is full.",
}
RETRIED = (429, 503)
OF_A_MODEL = (400, 500, 503)  # errors that are possible once the model is known


def _header(kind: str, description: str, **more: Any) -> Json:
    return {"description": description, "schema": {"type": kind, **more}}


HEADERS: Json = {
    "X-Request-ID": _header("string", "The id of this request, also in the server's log."),
    "openai-processing-ms": _header("integer", "Milliseconds until the response began."),
    "openai-version": _header("string", "The version of OpenAI's API."),
    "Retry-After": _header("integer", "Whole seconds to wait.", minimum=1),
    "X-Sotto-Model": _header(
        "string",
        "The model that is used, whichever id the request gave; percent-encoded if necessary. "
        "On transcriptions and translations, and on their errors once it is known.",
    ),
}
RETRY: Json = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
MODEL: Json = {"X-Sotto-Model": {"$ref": "#/components/headers/X-Sotto-Model"}}
ON_ALL: Json = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS if name not in RETRY | MODEL}

_EXAMPLES = {
    "text": "Hello world.\n",
    "srt": "1\n00:00:00,000 --> 00:00:02,400\nHello world.\n\n\n",
    "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:02.400\nHello world.\n\n",
}
PLAIN_TEXT: Json = {
    "text/plain": {
        "schema": {"type": "string"},
        "examples": {name: {"value": value} for name, value in _EXAMPLES.items()},
    }
}


def operation_id(route: APIRoute) -> str:
    """Return `listModels` for `list_models`, the function of a route."""
    first, *others = route.name.split("_")
    return first + "".join(map(str.capitalize, others))


def ok(model: Any, **more: Any) -> Responses:
    """Return the response 200, JSON of the type `model`; `more` are members of OpenAPI's response object.

    FastAPI only makes the schema of `model`: routes return a `Response`, which it neither checks nor serializes.
    """
    return {200: {"model": model, "description": "OK", "headers": ON_ALL, **more}}


def errors(*statuses: int) -> Responses:
    """Return the errors of these statuses, by reference to `error_responses`."""
    return {
        status: {"$ref": f"#/components/responses/{status}", "description": ERRORS[status]} for status in statuses
    }


def error_responses() -> Json:
    """Return the errors' components of the document."""
    return {str(status): _error(status) for status in ERRORS}


def _error(status: int) -> Json:
    more = (RETRY if status in RETRIED else {}) | (MODEL if status in OF_A_MODEL else {})
    content = {"application/json": {"schema": {"$ref": REF.format(model=ErrorResponse.__name__)}}}
    return {"description": ERRORS[status], "headers": ON_ALL | more, "content": content}


def events(event: Any) -> Json:
    """Return the content type of server-sent events, whose data is JSON of the type `event`."""
    text = "The JSON behind `data:`. An error is in its envelope, and is the last event."
    return {"text/event-stream": {"schema": {"description": text, **schema_of(event)}}}


def schema_of(kind: Any, mode: Literal["validation", "serialization"] = "serialization") -> Json:
    """Return the JSON schema of a type, with those it refers to in `$defs`."""
    schemas, definitions = TypeAdapter.json_schemas([(None, mode, TypeAdapter(kind))], ref_template=REF)
    return {**schemas[None, mode], **definitions}
