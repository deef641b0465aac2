"""The whole API as an OpenAPI 3.1 document, which /openapi.json serves and /docs shows.

Written by hand, since the routes read forms and write responses that FastAPI has no knowledge of; tests compare
it with the routes, the fields that are read, the errors that exist and actual responses.
"""

from typing import Any

from server import __version__
from server.api.openapi.parameters import PARAMETERS, Parameter
from server.api.openapi.schemas import INTEGER, TEXT, ref, schemas
from server.formats.render import Json

DESCRIPTION = """\
OpenAI's audio API on this machine: clients need only the address of this server followed by `/v1`. For a
server on port 8000 of this machine:
`curl localhost:8000/v1/audio/transcriptions -F model=whisper-1 -F file=@speech.mp3`

Every error is OpenAI's envelope, `{"error": {"message", "type", "param", "code"}}`,
always as JSON.

If the server has keys (`SOTTO_API_KEYS`), every route needs one except `/`, `/health`, `/ready`,
`/docs` and `/openapi.json`.

Routes under `/v1` are also served without that prefix, under `/openai/v1`, and at Azure's paths:
`/openai/deployments/{model}/audio/transcriptions` and `/translations`.\
"""

ERRORS = {
    400: "The request is invalid, or the file is not audio; `param` names the field.",
    401: "The key is missing or wrong.",
    403: "An admin key (`SOTTO_ADMIN_KEYS`) is required, or the server does not allow this at all.",
    404: "There is no such model or route.",
    408: "The upload is too slow.",
    409: "The model is in use, or another process is writing its files.",
    413: "The body is larger than `SOTTO_MAX_UPLOAD_MB`, or a posted transcript than `SOTTO_MAX_RENDER_MB`.",
    429: "This client has too many requests in progress; `Retry-After` says when to retry.",
    500: "An error inside the server; its log has the details.",
    502: "The model could not be downloaded; the next attempt resumes.",
    503: "The server is full or shutting down, or the model is not running; `Retry-After` says when to retry.",
    507: "The disk is full.",
}
RETRIED = (429, 503)
OF_A_MODEL = (400, 500, 503)  # errors that are possible once the model is known
EVERYWHERE = (401, 500)
RENDERS = (400, 401, 408, 413, 500, 503)
UPLOADS = (400, 401, 404, 408, 413, 429, 500, 503)


def describe() -> dict[str, Any]:
    """Return the document. It is the same for every server of this version: it contains no settings."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sotto",
            "version": __version__,
            "summary": "Speech to text behind OpenAI's audio API.",
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [*({scheme: []} for scheme in KEYS), {}],
        "paths": _paths(),
        "components": {
            "schemas": schemas(),
            "responses": {str(status): _error(status) for status in ERRORS},
            "headers": HEADERS,
            "securitySchemes": KEYS,
        },
    }


def _paths() -> Json:
    return {**_transcribing(), **_models(), **_watching()}


def _transcribing() -> Json:
    return {
        "/v1/audio/transcriptions": {
            "post": {
                "operationId": "createTranscription",
                "summary": "Transcribe a recording",
                "requestBody": _form(PARAMETERS),
                "responses": {"200": _answers("Transcription", "VerboseTranscription"), **_errors(*UPLOADS)},
            }
        },
        "/v1/audio/translations": {
            "post": {
                "operationId": "createTranslation",
                "summary": "Translate a recording into English; `language` is that of the recording",
                "requestBody": _form(PARAMETERS),
                "responses": {"200": _answers("Translation", "VerboseTranslation"), **_errors(*UPLOADS)},
            }
        },
        "/v1/audio/transcriptions/render": {
            "post": {
                "operationId": "renderTranscript",
                "summary": "Render a transcript, original or edited, as subtitles, text or JSON; without audio",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": ref("PostedTranscript")}},
                },
                "responses": {"200": _rendered(), **_errors(*RENDERS)},
            }
        },
    }


def _models() -> Json:
    model = {"name": "model", "in": "path", "required": True, "schema": TEXT}
    model["description"] = "A model id; slashes may be percent-encoded or not."
    stream = {"name": "stream", "in": "query", "schema": {"type": "boolean", "default": True}}
    stream["description"] = "`false`: a single response, at the end"
    keep_alive = {"name": "keep_alive", "in": "query", "schema": TEXT}
    keep_alive["description"] = "as the field of transcriptions"
    wait = {"name": "wait", "in": "query", "schema": {"type": "boolean", "default": False}}
    wait["description"] = "`true`: wait until no request uses it, instead of 409"
    return {
        "/v1/models": {
            "get": {
                "operationId": "listModels",
                "summary": "List the model ids that requests may use, aliases included",
                "responses": {"200": _ok("ModelList"), **_errors(*EVERYWHERE)},
            }
        },
        "/v1/models/{model}": {
            "get": {
                "operationId": "retrieveModel",
                "summary": "Describe one model",
                "parameters": [model],
                "responses": {"200": _ok("Model"), **_errors(401, 404, 500)},
            },
            "post": {
                "operationId": "pullModel",
                "summary": "Download a model; requires an admin key",
                "parameters": [model, stream],
                "responses": {"200": _pulled(), **_errors(400, 401, 403, 404, 409, 500, 502, 507)},
            },
            "delete": {
                "operationId": "deleteModel",
                "summary": "Delete a model's files; requires an admin key",
                "parameters": [model],
                "responses": {"200": _ok("DeletedModel"), **_errors(401, 403, 404, 409, 500)},
            },
        },
        "/api/ps": {
            "get": {
                "operationId": "listRunning",
                "summary": "List the loaded models and how busy each is",
                "responses": {"200": _ok("RunningModels"), **_errors(*EVERYWHERE)},
            }
        },
        "/api/ps/{model}": {
            "post": {
                "operationId": "loadModel",
                "summary": "Load a model, and respond once it is loaded; requires an admin key",
                "parameters": [model, keep_alive],
                "responses": {"200": _ok("RunningModel"), **_errors(400, 401, 403, 404, 500, 503)},
            },
            "delete": {
                "operationId": "unloadModel",
                "summary": "Unload a model, and respond once its memory is free; requires an admin key",
                "parameters": [model, wait],
                "responses": {"200": _ok("RunningModel"), **_errors(400, 401, 403, 404, 409, 500)},
            },
        },
    }


def _watching() -> Json:
    return {
        "/health": {
            "get": {
                "operationId": "health",
                "summary": "Report that the server is running, its version and queue; never waits for the model",
                "security": [],
                "responses": {"200": _ok("Health")},
            }
        },
        "/ready": {
            "get": {
                "operationId": "ready",
                "summary": "Report whether requests can be served; if not, 503 with the reason",
                "security": [],
                "responses": {"200": _ok("Ready"), **_errors(503)},
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Requests, queues, times, models and memory for Prometheus",
                "responses": {
                    "200": {
                        "description": "Prometheus' text format.",
                        "headers": ON_ALL,
                        "content": {"text/plain": {"schema": TEXT}},
                    },
                    **_errors(*EVERYWHERE),
                },
            }
        },
    }


KEYS: Json = {
    "key": {"type": "http", "scheme": "bearer"},
    "azureKey": {"type": "apiKey", "in": "header", "name": "api-key"},
    "password": {"type": "http", "scheme": "basic", "description": "The key as the password; any user name."},
}
HEADERS: Json = {
    "X-Request-ID": {"description": "The id of this request, also in the server's log.", "schema": TEXT},
    "openai-processing-ms": {"description": "Milliseconds until the response began.", "schema": INTEGER},
    "openai-version": {"description": "The version of OpenAI's API.", "schema": TEXT},
    "Retry-After": {"description": "Whole seconds to wait.", "schema": INTEGER | {"minimum": 1}},
    "X-Sotto-Model": {
        "description": "The model that is used, whichever id the request gave; percent-encoded if "
        "necessary. On transcriptions and translations, and on their errors once it is known.",
        "schema": TEXT,
    },
}
RETRY: Json = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
MODEL: Json = {"X-Sotto-Model": {"$ref": "#/components/headers/X-Sotto-Model"}}
ON_ALL: Json = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS if name not in RETRY | MODEL}


def _form(parameters: tuple[Parameter, ...]) -> Json:
    properties = {each.name: _property(each) for each in parameters}
    required = [each.name for each in parameters if each.required]
    schema = {"type": "object", "required": required, "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _property(parameter: Parameter) -> Json:
    extension = {"x-sotto-extension": True} if parameter.ours else {}
    return {**parameter.schema, "description": f"{parameter.text}.", **extension}


def _answers(plain: str, verbose: str) -> Json:
    """Return the content types of a transcription; `response_format` chooses."""
    return {
        "description": "The text. `json` and `verbose_json` come as JSON; `text`, `srt` and `vtt` as plain text; "
        "with `stream`, server-sent events, ended by `data: [DONE]`, with comments as heartbeats.",
        "headers": ON_ALL | MODEL,
        "content": {
            "application/json": {"schema": {"anyOf": [ref(verbose), ref(plain)]}},
            "text/plain": _plain_text(),
            "text/event-stream": {"schema": ref("StreamEvent")},
        },
    }


def _rendered() -> Json:
    kinds = ("VerboseTranscription", "VerboseTranslation", "Transcription", "Translation")
    return {
        "description": "As the response of a transcription in that format.",
        "headers": ON_ALL,
        "content": {
            "application/json": {"schema": {"anyOf": [ref(kind) for kind in kinds]}},
            "text/plain": _plain_text(),
        },
    }


def _plain_text() -> Json:
    srt = "1\n00:00:00,000 --> 00:00:02,400\nHello world.\n\n\n"
    vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:02.400\nHello world.\n\n"
    examples = {name: {"value": value} for name, value in (("text", "Hello world.\n"), ("srt", srt), ("vtt", vtt))}
    return {"schema": TEXT, "examples": examples}


def _pulled() -> Json:
    return {
        "description": "Progress events, several times per second; the last one reports success, followed by "
        "`data: [DONE]`, or the error. Without a stream only the last one.",
        "headers": ON_ALL,
        "content": {
            "application/json": {"schema": ref("PullEvent")},
            "text/event-stream": {"schema": {"anyOf": [ref("PullEvent"), ref("ErrorResponse")]}},
        },
    }


def _ok(schema: str) -> Json:
    return {"description": "OK", "headers": ON_ALL, "content": {"application/json": {"schema": ref(schema)}}}


def _errors(*statuses: int) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _error(status: int) -> Json:
    more = (RETRY if status in RETRIED else {}) | (MODEL if status in OF_A_MODEL else {})
    return _ok("ErrorResponse") | {"description": ERRORS[status], "headers": ON_ALL | more}
