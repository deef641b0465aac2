"""The JSON Schemas of responses in /openapi.json: every key of them, and no other."""

from typing import Any, get_args

from server.api.forms import SUBTITLE_FIELDS
from server.api.openapi.parameters import PARAMETERS
from server.api.posted_transcript import POSTED
from server.formats.render import Json
from server.models.progress import PullState
from server.stats import Presence
from server.transcript import Task

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
INTEGER: Json = {"type": "integer"}
SECONDS: Json = {"type": "number", "minimum": 0, "description": "seconds"}


def ref(name: str) -> Json:
    """Return a reference to one of `schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas() -> Json:
    """Return all schemas by name."""
    return {
        **_transcriptions(),
        **_parts(),
        **_events(),
        **_posted(),
        "ErrorResponse": _object("Every error.", {"error": ref("Error")}),
        "Error": _object(
            "",
            {
                "message": TEXT | {"description": "what was wrong and what is allowed"},
                "type": TEXT | {"description": "`invalid_request_error`, `server_error` or `requests`"},
                "param": {"type": ["string", "null"], "description": "the invalid field"},
                "code": {"type": ["string", "null"], "description": "machine-readable code"},
            },
        ),
        "ModelList": _object("", {"object": {"const": "list"}, "data": _list(ref("Model"))}),
        "Model": _object(
            "",
            {
                "id": TEXT,
                "object": {"const": "model"},
                "created": INTEGER | {"description": "Unix time"},
                "owned_by": TEXT,
                "root": TEXT | {"description": "the model's own id, of which this one may be an alias"},
                "state": {"enum": [*get_args(Presence)], "description": "`available`: loaded on first use"},
                "size": INTEGER | {"description": "bytes on disk"},
            },
            {
                "languages": _list(TEXT) | {"description": "language codes; in lists only if `id` equals `root`"},
                "demo": {"const": True, "description": "it only knows digits and a few sentences"},
                "reason": TEXT | {"description": "why it is loading or broken"},
            },
        ),
        "DeletedModel": _object("", {"id": TEXT, "object": {"const": "model"}, "deleted": {"const": True}}),
        "RunningModels": _object(
            "", {"time": INTEGER | {"description": "now, Unix time"}, "models": _list(ref("RunningModel"))}
        ),
        "RunningModel": _running(),
        "PullEvent": _object(
            "Progress of a download.",
            {
                "type": {"const": "sotto.pull"},
                "model": TEXT,
                "state": {"enum": [*get_args(PullState), "done"]},
            },
            {
                "file": TEXT | {"description": "the current file, until all are done"},
                "done_bytes": INTEGER | {"description": "of all files; absent if nothing had to be pulled"},
                "total_bytes": INTEGER,
            },
        ),
        "Health": _object(
            "",
            {
                "status": {"const": "ok"},
                "version": TEXT,
                "model": TEXT | {"description": "the default model"},
                "queued_windows": INTEGER,
                "running_windows": INTEGER,
            },
        ),
        "Ready": _object("", {"status": {"const": "ready"}, "model": TEXT | {"description": "the default model"}}),
    }


def _running() -> Json:
    def unless(kind: str, description: str) -> Json:
        return {"type": [kind, "null"], "description": description}

    return _object(
        "A model that is loaded or being loaded.",
        {
            "id": TEXT,
            "state": {"enum": [*get_args(Presence)]},
            "reason": unless("string", "why it is not loaded"),
            "device": unless("string", "`cpu` or `cuda`; null while it isn't loaded"),
            "compute_type": unless("string", "CTranslate2's compute type; null while it isn't loaded"),
            "memory_bytes": INTEGER | {"description": "RAM used by its processes"},
            "estimated_bytes": INTEGER | {"description": "what counts against `SOTTO_MEMORY_BUDGET_MB`"},
            "requests": INTEGER | {"description": "in progress, or waiting for it to load"},
            "queued_windows": INTEGER,
            "running_windows": INTEGER,
            "last_used": unless("integer", "Unix time"),
            "expires_at": unless("integer", "when it will be unloaded, Unix time; null: never, or in use"),
        },
    )


def _transcriptions() -> Json:
    logprobs: Json = {"logprobs": _list(ref("Logprob")) | {"description": "if `include[]` requests them"}}
    languages = _list(ref("Language")) | {"description": "for `gpt-transcribe`, and if `languages[]` is sent"}
    usage = {"usage": {"oneOf": [ref("DurationUsage"), ref("TokenUsage")]}}
    return {
        "Transcription": _object(
            "The response in `json`.", {"text": TEXT, **usage}, {**logprobs, "languages": languages}
        ),
        "VerboseTranscription": _verbose("transcribe", {"usage": ref("DurationUsage")}),
        "Translation": _object("A translation in `json`.", {"text": TEXT}, logprobs),
        "VerboseTranslation": _verbose("translate", {}),
        "TextDelta": _object(
            "The text of one segment; the joined deltas are the whole text.",
            {"type": {"const": "transcript.text.delta"}, "delta": TEXT},
            logprobs,
        ),
        "TextDone": _object(
            "The end of the stream.",
            {"type": {"const": "transcript.text.done"}, "text": TEXT},
            {**logprobs, "languages": languages, "usage": ref("TokenUsage") | {"description": "for `gpt-*` ids"}},
        ),
    }


def _verbose(task: Task, usage: Json) -> Json:
    return _object(
        "The response in `verbose_json`.",
        {
            "task": {"const": task},
            "language": TEXT
            | {"description": "English name of the text's language, in lower case; in the nested dialect its code"},
            "language_code": TEXT | {"description": "`en`. Not OpenAI's"},
            "duration": SECONDS,
            "text": TEXT | {"description": "the segments' texts joined and trimmed"},
            **usage,
        },
        {
            "segments": _list(ref("Segment")) | {"description": "unless `word` is the only granularity"},
            "words": _list(ref("Word")) | {"description": "if `word` is one of the granularities"},
        },
    )


def _events() -> Json:
    """Return the schemas of this server's own events, and the union of all events of a stream."""
    events = ("TextDelta", "TextDone", "SegmentEvent", "ProgressEvent", "ErrorResponse")
    return {
        "SegmentEvent": _segment(
            "A finished segment, if `stream_events[]` includes `segments`. Not OpenAI's.",
            {"type": {"const": "sotto.segment"}},
        ),
        "ProgressEvent": _object(
            "Progress, if `stream_events[]` includes `progress`. Not OpenAI's.",
            {
                "type": {"const": "sotto.progress"},
                "done_s": SECONDS,
                "queue_position": INTEGER | {"description": "requests ahead of this one"},
            },
            {
                "total_hint_s": SECONDS | {"description": "duration according to the file's header, s"},
                "language": TEXT | {"description": "language code, from the first segment on"},
            },
        ),
        "StreamEvent": {
            "description": "The data of an event. An error is in its envelope, and is the last event.",
            "anyOf": [ref(name) for name in events],
        },
    }


def _parts() -> Json:
    return {
        "Segment": _segment("A phrase between two timestamps of the model.", {}),
        "Word": _object(
            "A word without spaces and punctuation around it; in the nested dialect with its punctuation.",
            {
                "word": TEXT,
                "start": SECONDS,
                "end": SECONDS,
                "probability": NUMBER | {"description": "mean probability of its tokens. Not OpenAI's"},
            },
        ),
        "Logprob": _object(
            "A token of the text.",
            {
                "token": TEXT,
                "logprob": NUMBER | {"description": "natural logarithm of its probability"},
                "bytes": _list(INTEGER) | {"description": "as UTF-8; a token may be part of a character"},
            },
        ),
        "Language": _object("A detected language.", {"code": TEXT}),
        "DurationUsage": _object(
            "Usage for Whisper's ids.",
            {"type": {"const": "duration"}, "seconds": INTEGER | {"description": "rounded up"}},
        ),
        "TokenUsage": _object(
            "Usage for `gpt-*` ids.",
            {
                "type": {"const": "tokens"},
                "input_tokens": INTEGER,
                "input_token_details": _object(
                    "",
                    {
                        "text_tokens": INTEGER | {"description": "of the prompt and the hotwords"},
                        "audio_tokens": INTEGER | {"description": "ten per second"},
                    },
                ),
                "output_tokens": INTEGER | {"description": "of the text"},
                "total_tokens": INTEGER,
            },
        ),
    }


def _posted() -> Json:
    """Return the schema of a transcript to be rendered, with the subtitle fields of a transcription."""
    whole: dict[str, Any] = POSTED.json_schema(ref_template="#/components/schemas/{model}")
    schemas: Json = {**whole.pop("$defs"), "PostedTranscript": whole}
    for each in PARAMETERS:
        if each.name in SUBTITLE_FIELDS:
            whole["properties"][each.name] = {**each.schema, "description": f"{each.text}."}
    return {name: _plain(schema) for name, schema in schemas.items()}


def _plain(schema: Any) -> Any:
    """Remove pydantic's titles, which repeat names, and null as a default, since it means absent."""
    if not isinstance(schema, dict):
        return schema
    plain = {name: _plain(each) for name, each in schema.items() if (name, each) != ("default", None)}
    return {name: each for name, each in plain.items() if name != "title" or not isinstance(each, str)}


def _segment(description: str, more: Json) -> Json:
    return _object(
        description,
        {
            **more,
            "id": INTEGER | {"description": "counted from 0"},
            "seek": INTEGER | {"description": "start of its window, in frames of 10 ms"},
            "start": SECONDS,
            "end": SECONDS,
            "text": TEXT | {"description": "with its leading space"},
            "tokens": _list(INTEGER) | {"description": "including both timestamps"},
            "temperature": NUMBER | {"description": "of the accepted attempt: 0, unless it had to be repeated"},
            "avg_logprob": NUMBER | {"description": "below -1: unreliable"},
            "compression_ratio": NUMBER | {"description": "above 2.4: it repeats itself"},
            "no_speech_prob": NUMBER | {"description": "above 0.6, with a low `avg_logprob`: silence"},
        },
        {"words": _list(ref("Word")) | {"description": "if requested. Not OpenAI's"}},
    )


def _object(description: str, required: Json, optional: Json | None = None) -> Json:
    schema: Json = {"type": "object", "required": [*required], "properties": required | (optional or {})}
    return {"description": description, **schema} if description else schema


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}
