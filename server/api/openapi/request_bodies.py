"""The bodies that routes read by themselves, for the OpenAPI document: the form, and a posted transcript."""

from typing import Any

from server.api.forms import SUBTITLE_FIELDS
from server.api.openapi.parameters import PARAMETERS, Parameter
from server.api.openapi.responses import schema_of
from server.api.posted_transcript import PostedTranscript

Json = dict[str, Any]


def form() -> Json:
    """Return the form of a transcription, from its table."""
    properties = {each.name: _property(each) for each in PARAMETERS}
    required = [each.name for each in PARAMETERS if each.required]
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _property(parameter: Parameter) -> Json:
    extension = {"x-sotto-extension": True} if parameter.ours else {}
    return {**parameter.schema, "description": f"{parameter.text}.", **extension}


def posted_transcript() -> Json:
    """Return a transcript to be rendered, with the subtitle fields of the form's table."""
    schema = schema_of(PostedTranscript, "validation")
    properties = schema["$defs"][PostedTranscript.__name__]["properties"]
    for each in PARAMETERS:
        if each.name in SUBTITLE_FIELDS:
            properties[each.name] = {**each.schema, "description": f"{each.text}."}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
