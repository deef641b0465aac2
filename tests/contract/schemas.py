"""What an answer must look like, twice: as OpenAI's schemas have it, and as this server's own document does."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from server.api.openapi.document import describe

OPENAI = json.loads((Path(__file__).parent / "openai.json").read_text("utf-8"))

# The one schema that an answer of this kind must fit; the published `oneOf` fits no verbose answer.
THEIRS = {
    ("transcriptions", "json"): "CreateTranscriptionResponseJson",
    ("transcriptions", "verbose_json"): "CreateTranscriptionResponseVerboseJson",
    ("translations", "json"): "CreateTranslationResponseJson",
    ("translations", "verbose_json"): "CreateTranslationResponseVerboseJson",
}
OURS = {
    ("transcriptions", "json"): "JsonTranscription",
    ("transcriptions", "verbose_json"): "VerboseTranscription",
    ("translations", "json"): "JsonTranslation",
    ("translations", "verbose_json"): "VerboseTranslation",
}


def fits(body: Any, theirs: str | None, ours: str) -> None:
    """Fail unless `body` is valid by both schemas, where both know it, and has no key that our own does not."""
    for name, document in ((theirs, OPENAI), (ours, _closed_document())):
        validator = Draft202012Validator({"$ref": f"#/components/schemas/{name}", **document})
        assert not name or not [f"{each.json_path}: {each.message}" for each in validator.iter_errors(body)], body


@cache
def _closed_document() -> dict[str, Any]:
    return {"components": _closed(describe()["components"])}


def _closed(schema: Any) -> Any:
    """`schema` with every object in it closed to keys that it does not name."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return closed | {"additionalProperties": False} if schema.get("type") == "object" else closed
