"""A multipart form in, a checked `TranscriptionOptions` out. Reads fields in every way that clients write them."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from starlette.datastructures import FormData, UploadFile

from server.errors import InvalidRequest, UnknownLanguage
from server.languages import code_of
from server.options import (
    FALLBACK_TEMPERATURES,
    GRANULARITIES,
    RESPONSE_FORMATS,
    DecodingOptions,
    Granularity,
    ResponseFormat,
    TranscriptionOptions,
)
from server.settings import Settings
from server.transcript import Task

PROMPT_CHARACTERS = 6_000  # its last 223 tokens count; a token is rarely longer than 20 characters
YES = frozenset({"true", "1", "yes", "on"})
NO = frozenset({"false", "0", "no", "off"})


def parse_form(form: FormData, settings: Settings, task: Task) -> tuple[UploadFile, TranscriptionOptions]:
    """The file and the options of a request. Raises `InvalidRequest` naming the field."""
    fields = Fields(form)
    options = TranscriptionOptions(
        model=_model(fields),
        response_format=_response_format(fields),
        granularities=_granularities(fields),
        stream=fields.flag("stream", False),
        nested_words=fields.flag("nested_words", settings.nested_words),
        decoding=DecodingOptions(
            task=task,
            language=_language(fields),
            multilingual=fields.flag("multilingual", False),
            condition_on_previous_text=fields.flag(
                "condition_on_previous_text", settings.condition_on_previous_text
            ),
            prompt=fields.text("prompt")[-PROMPT_CHARACTERS:],
            beam_size=settings.beam_size,
            temperatures=_temperatures(fields),
        ),
    )
    if "word" in options.granularities and options.response_format == "verbose_json":
        options = replace(options, decoding=replace(options.decoding, word_timestamps=True))
    return _file(form), options


class Fields:
    """The text fields of a form; an empty one counts as absent."""

    def __init__(self, form: FormData) -> None:
        self._form = form

    def text(self, name: str) -> str:
        """The last value of a field, or an empty string."""
        values = self._form.getlist(name)
        if not values:
            return ""
        if not isinstance(values[-1], str):
            raise _invalid(name, f"'{name}' must be text, not a file.")
        return values[-1].strip()

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name).lower()
        if not value:
            return default
        if value not in YES | NO:
            raise _invalid(name, f"'{name}' must be 'true' or 'false', not {_quoted(value)}.")
        return value in YES

    def items(self, name: str) -> list[str]:
        """The values of a list field, in whichever way it was written: `x[]`, `x`, `x[][]`, `x[0]`,
        `extra_body[x][]`, or one part that holds a JSON array. Doubles are dropped."""
        spelling = re.compile(rf"(?:{re.escape(name)}|extra_body\[{re.escape(name)}\])(?:\[\d*\])*")
        found: dict[str, None] = {}
        for key, value in self._form.multi_items():
            if spelling.fullmatch(key):
                if not isinstance(value, str):
                    raise _invalid(name, f"'{name}' must be text, not a file.")
                found.update(dict.fromkeys(_listed(name, value)))
        return list(found)


def _listed(name: str, value: str) -> Iterator[str]:
    value = value.strip()
    if not value.startswith("["):
        yield from [value] if value else []
        return
    try:
        entries = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise _invalid(name, f"'{name}' is no valid JSON array: {error}") from error
    for entry in entries:
        if not isinstance(entry, str):
            raise _invalid(name, f"'{name}' must be a list of strings.")
        yield entry


def _file(form: FormData) -> UploadFile:
    uploads = form.getlist("file")
    if not uploads:
        raise InvalidRequest(
            "1 validation error for Request\nbody -> file\n  field required (type=value_error.missing)"
        )
    upload = uploads[-1]
    if not isinstance(upload, UploadFile):
        raise _invalid("file", "'file' must be an uploaded file (a form part with a filename), not text.")
    return upload


def _model(fields: Fields) -> str:
    model = fields.text("model")
    if not model:
        raise InvalidRequest("you must provide a model parameter", param="model")
    return model


def _response_format(fields: Fields) -> ResponseFormat:
    asked = fields.text("response_format") or "json"
    for known in RESPONSE_FORMATS:
        if asked == known:
            return known
    if asked == "diarized_json":
        raise _invalid(
            "response_format", "response_format 'diarized_json' needs diarization, which is not installed."
        )
    raise _invalid(
        "response_format", f"response_format must be one of {_list(RESPONSE_FORMATS)}, not {_quoted(asked)}."
    )


def _granularities(fields: Fields) -> frozenset[Granularity]:
    asked = fields.items("timestamp_granularities")
    for value in asked:
        if value not in get_args(Granularity):
            raise _invalid(
                "timestamp_granularities",
                f"timestamp_granularities must be among {_list(GRANULARITIES)}, not {_quoted(value)}.",
            )
    return frozenset(known for known in GRANULARITIES if known in asked) or frozenset({"segment"})


def _language(fields: Fields) -> str | None:
    asked = fields.text("language")
    if not asked or asked.lower() == "auto":
        return None
    code = code_of(asked)
    if code is None:
        raise UnknownLanguage(asked)
    return code


def _temperatures(fields: Fields) -> tuple[float, ...]:
    """The fallback ladder for 0 or nothing; a value above 0 stands alone."""
    asked = fields.text("temperature") or "0"
    try:
        value = float(asked)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _invalid("temperature", f"temperature must be a number between 0 and 1, not {_quoted(asked)}.")
    return (value,) if value > 0 else FALLBACK_TEMPERATURES


def _invalid(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")


def _quoted(value: str) -> str:
    """What a client sent, short enough to send back."""
    return repr(value if len(value) <= 60 else f"{value[:60]}…")


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names)
