"""The whole API as an OpenAPI 3.1 document: what /openapi.json serves and /docs shows.

Written by hand, since the routes read forms and write answers that FastAPI knows nothing of; tests hold it
against the routes, the fields that are read, the errors there are and the answers that are given.
"""

from typing import Any, get_args

from server import __version__
from server.api.parameters import PARAMETERS, Parameter
from server.formats import Json
from server.stats import State
from server.transcript import Task

DESCRIPTION = """\
OpenAI's audio API on this machine: a client needs no more than this server's address, with `/v1` behind it:
`curl localhost:8000/v1/audio/transcriptions -F model=whisper-1 -F file=@speech.mp3`

Every error is OpenAI's envelope, `{"error": {"message", "type", "param", "code"}}`, in JSON whatever was asked for.

A key is needed where the server has any (`SOTTO_API_KEYS`), but for `/health`, `/ready`, `/docs` and
`/openapi.json`.

Routes under `/v1` answer without it as well, under `/openai/v1`, and where Azure has them:
`/openai/deployments/{model}/audio/transcriptions` and `/translations`.\
"""

ERRORS = {
    400: "The request is wrong, or the file is no audio; `param` names the field.",
    401: "No key was sent, or a wrong one.",
    403: "This is not for clients to do.",
    404: "There is no such model here.",
    413: "The body is larger than `SOTTO_MAX_UPLOAD_MB`.",
    429: "This client has too many requests under way; `Retry-After` says when to come back.",
    500: "A fault of this server's. Its log tells more.",
    503: "The server is full or stopping, or its model does not run; `Retry-After` says when to come back.",
}
RETRIED = (429, 503)
EVERYWHERE = (401, 500)
UPLOADS = (400, 401, 404, 413, 429, 500, 503)

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
INTEGER: Json = {"type": "integer"}
SECONDS: Json = {"type": "number", "minimum": 0, "description": "seconds"}


def describe() -> dict[str, Any]:
    """The document. The same for every server of this version: it tells nothing of settings."""
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
            "schemas": _schemas(),
            "responses": {str(status): _error(status) for status in ERRORS},
            "headers": HEADERS,
            "securitySchemes": KEYS,
        },
    }


def _paths() -> Json:
    model = {"name": "model", "in": "path", "required": True, "schema": TEXT}
    model["description"] = "An id; its slashes encoded or bare."
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
                "summary": "Translate a recording into English; `language` is the recording's",
                "requestBody": _form(PARAMETERS),
                "responses": {"200": _answers("Translation", "VerboseTranslation"), **_errors(*UPLOADS)},
            }
        },
        "/v1/models": {
            "get": {
                "operationId": "listModels",
                "summary": "List every id that requests may name, aliases included",
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
            "delete": {
                "operationId": "deleteModel",
                "summary": "Refused: models are the operator's",
                "parameters": [model],
                "responses": _errors(401, 403, 404, 500),
            },
        },
        "/health": {
            "get": {
                "operationId": "health",
                "summary": "Tell whether the server works, its version and queue; answers at once, whatever runs",
                "security": [],
                "responses": {"200": _ok("Health")},
            }
        },
        "/ready": {
            "get": {
                "operationId": "ready",
                "summary": "Tell whether a request would be served now; if not, 503 and why",
                "security": [],
                "responses": {"200": _ok("Ready"), **_errors(503)},
            }
        },
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "The engine's queue, batches, times and errors for Prometheus",
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
    "password": {"type": "http", "scheme": "basic", "description": "The key as the password, of any user."},
}
HEADERS: Json = {
    "X-Request-ID": {"description": "This request's id, as the log has it.", "schema": TEXT},
    "openai-processing-ms": {"description": "Milliseconds until the answer began.", "schema": INTEGER},
    "Retry-After": {"description": "Whole seconds to wait.", "schema": INTEGER | {"minimum": 1}},
}
ON_ALL: Json = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", "openai-processing-ms")}


def _form(parameters: tuple[Parameter, ...]) -> Json:
    properties = {each.name: _property(each) for each in parameters}
    required = [each.name for each in parameters if each.required]
    schema = {"type": "object", "required": required, "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _property(parameter: Parameter) -> Json:
    extension = {"x-sotto-extension": True} if parameter.ours else {}
    return {**parameter.schema, "description": f"{parameter.text}.", **extension}


def _answers(plain: str, verbose: str) -> Json:
    """What a recording's text comes as; `response_format` chooses."""
    srt = "1\n00:00:00,000 --> 00:00:02,400\nHello world.\n\n\n"
    vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:02.400\nHello world.\n\n"
    examples = {name: {"value": value} for name, value in (("text", "Hello world.\n"), ("srt", srt), ("vtt", vtt))}
    return {
        "description": "The text. `json` and `verbose_json` come as JSON; `text`, `srt` and `vtt` as plain text.",
        "headers": ON_ALL,
        "content": {
            "application/json": {"schema": {"anyOf": [_ref(verbose), _ref(plain)]}},
            "text/plain": {"schema": TEXT, "examples": examples},
        },
    }


def _ok(schema: str) -> Json:
    return {"description": "OK", "headers": ON_ALL, "content": {"application/json": {"schema": _ref(schema)}}}


def _errors(*statuses: int) -> Json:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _error(status: int) -> Json:
    retried = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}} if status in RETRIED else {}
    return _ok("ErrorResponse") | {"description": ERRORS[status], "headers": ON_ALL | retried}


def _schemas() -> Json:
    return {
        "Transcription": _object(
            "The answer in `json`.",
            {"text": TEXT, "usage": {"oneOf": [_ref("DurationUsage"), _ref("TokenUsage")]}},
            {
                "logprobs": _list(_ref("Logprob")) | {"description": "where `include[]` asked for them"},
                "languages": _list(_ref("Language"))
                | {"description": "of `gpt-transcribe`, and where `languages[]` named some"},
            },
        ),
        "VerboseTranscription": _verbose("transcribe", {"usage": _ref("DurationUsage")}),
        "Translation": _object("A translation in `json`.", {"text": TEXT}),
        "VerboseTranslation": _verbose("translate", {}),
        "Segment": _object(
            "A phrase between two timestamps of the model's.",
            {
                "id": INTEGER | {"description": "counted from 0"},
                "seek": INTEGER | {"description": "where its window begins, in frames of 10 ms"},
                "start": SECONDS,
                "end": SECONDS,
                "text": TEXT | {"description": "with its leading space"},
                "tokens": _list(INTEGER) | {"description": "both timestamps' too"},
                "temperature": NUMBER
                | {"description": "the one that was kept: 0, unless a try had to be repeated"},
                "avg_logprob": NUMBER | {"description": "below -1: doubtful"},
                "compression_ratio": NUMBER | {"description": "above 2.4: it repeats itself"},
                "no_speech_prob": NUMBER | {"description": "above 0.6, with a low `avg_logprob`: silence"},
            },
            {
                "words": _list(_ref("Word"))
                | {"description": "where `nested_words` or the dialect `nested` asked for them. Not OpenAI's"}
            },
        ),
        "Word": _object(
            "A word without the spaces and the punctuation around it.",
            {
                "word": TEXT,
                "start": SECONDS,
                "end": SECONDS,
                "probability": NUMBER | {"description": "mean of its tokens'. Not OpenAI's"},
            },
        ),
        "Logprob": _object(
            "A token of the text.",
            {
                "token": TEXT,
                "logprob": NUMBER | {"description": "natural logarithm of its probability"},
                "bytes": _list(INTEGER) | {"description": "its UTF-8; a token may be part of a character"},
            },
        ),
        "Language": _object("A language that was heard.", {"code": TEXT}),
        "DurationUsage": _object(
            "The usage of Whisper's ids.",
            {"type": {"const": "duration"}, "seconds": INTEGER | {"description": "rounded up"}},
        ),
        "TokenUsage": _object(
            "The usage of `gpt-*` ids.",
            {
                "type": {"const": "tokens"},
                "input_tokens": INTEGER,
                "input_token_details": _object(
                    "",
                    {
                        "text_tokens": INTEGER | {"description": "of the prompt"},
                        "audio_tokens": INTEGER | {"description": "ten for a second"},
                    },
                ),
                "output_tokens": INTEGER | {"description": "of the text"},
                "total_tokens": INTEGER,
            },
        ),
        "ErrorResponse": _object("Every error.", {"error": _ref("Error")}),
        "Error": _object(
            "",
            {
                "message": TEXT | {"description": "what was wrong and what is allowed"},
                "type": TEXT | {"description": "`invalid_request_error`, `server_error` or `requests`"},
                "param": {"type": ["string", "null"], "description": "the field"},
                "code": {"type": ["string", "null"], "description": "for programs"},
            },
        ),
        "ModelList": _object("", {"object": {"const": "list"}, "data": _list(_ref("Model"))}),
        "Model": _object(
            "",
            {
                "id": TEXT,
                "object": {"const": "model"},
                "created": INTEGER | {"description": "Unix time"},
                "owned_by": TEXT,
                "state": {"enum": [*get_args(State)], "description": "`ready`, or why it can't be used now"},
            },
            {"reason": TEXT | {"description": "of a state other than ready"}},
        ),
        "Health": _object(
            "",
            {
                "status": {"const": "ok"},
                "version": TEXT,
                "model": TEXT | {"description": "the default one"},
                "queued_windows": INTEGER,
                "running_windows": INTEGER,
            },
        ),
        "Ready": _object("", {"status": {"const": "ready"}, "model": TEXT | {"description": "the default one"}}),
    }


def _verbose(task: Task, usage: Json) -> Json:
    return _object(
        "The answer in `verbose_json`.",
        {
            "task": {"const": task},
            "language": TEXT | {"description": "the text's, by its English name: `english`; `en` where `nested`"},
            "language_code": TEXT | {"description": "`en`. Not OpenAI's"},
            "duration": SECONDS,
            "text": TEXT | {"description": "the segments' texts joined and trimmed"},
            **usage,
        },
        {
            "segments": _list(_ref("Segment")) | {"description": "unless `word` alone was asked for"},
            "words": _list(_ref("Word"))
            | {"description": "where `word` was asked for, but in the dialect `nested`"},
        },
    )


def _object(description: str, required: Json, optional: Json | None = None) -> Json:
    schema: Json = {"type": "object", "required": [*required], "properties": required | (optional or {})}
    return {"description": description, **schema} if description else schema


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
