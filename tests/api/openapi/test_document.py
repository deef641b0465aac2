"""/openapi.json says what there is. That answers look as it says is held by tests/contract."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from fastapi import FastAPI
from openapi_spec_validator import validate

from server.api.app import create_app
from server.api.forms import SUBTITLE_FIELDS
from server.api.openapi.document import describe
from server.api.openapi.parameters import PARAMETERS
from server.api.paths import OPEN_PATHS
from server.errors import Cancelled, MethodNotAllowed, SottoError
from server.formats.answers import TranscriptionSegment
from server.settings import Settings
from server.stats import Presence
from tests.support.fakes import make_media
from tests.support.registries import registry_of

DOCUMENT = describe()
FORMS = Path(__file__).parents[3] / "server/api/forms.py"
READ = r"fields\.(?:text|flag|number|whole|choices?|items|members)\(\s*\"(\w+)\""
FIELDS_READ = {"file", *re.findall(READ, FORMS.read_text("utf-8"))}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def request_body(path: str) -> dict[str, Any]:
    content: dict[str, Any] = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    return content


def descendants(kind: type[SottoError]) -> Iterator[type[SottoError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from descendants(child)


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_the_document_is_served_as_built() -> None:
    app = create_app(Settings(), registry_of(), make_media()).wrapped
    assert app.openapi() == DOCUMENT
    assert app.openapi() is app.openapi()  # every 404 lists its paths


def test_every_route_is_described_and_no_other() -> None:
    generated = FastAPI.openapi(create_app(Settings(), registry_of(), make_media()).wrapped)["paths"]
    served = {(method, path) for path, methods in generated.items() for method in methods}
    assert {(method, path) for method, path, _ in operations()} == served


def test_everything_is_described() -> None:
    form = request_body("/v1/audio/transcriptions")["multipart/form-data"]["schema"]
    described = [*form["properties"].values(), *DOCUMENT["components"]["responses"].values()]
    for _, _, operation in operations():
        described += [operation, *operation.get("parameters", ()), *operation["responses"].values()]
    assert [each for each in described if not each["description"]] == []


def test_answers_of_fastapi_s_own_are_not_described() -> None:
    assert not {"HTTPValidationError", "ValidationError"} & DOCUMENT["components"]["schemas"].keys()
    assert not [path for _, path, operation in operations() if "422" in operation["responses"]]


def test_schemas_are_those_of_the_types() -> None:
    """One of each kind: a member that may be absent, one that may be null, a choice, a description, a bound."""
    schemas = DOCUMENT["components"]["schemas"]
    segment, running, entry = (schemas[name] for name in ("TranscriptionSegment", "RunningModel", "ModelEntry"))
    assert segment["description"] == inspect.getdoc(TranscriptionSegment)
    assert set(segment["required"]) == TranscriptionSegment.__required_keys__
    assert set(segment["properties"]) - set(segment["required"]) == {"words"}
    start = {"type": "number", "minimum": 0, "description": "seconds"}
    assert start.items() <= segment["properties"]["start"].items()
    assert running["properties"]["device"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    assert entry["properties"]["state"]["enum"] == [*get_args(Presence)]


def test_a_posted_transcript_has_the_subtitle_fields_of_the_form() -> None:
    form = request_body("/v1/audio/transcriptions")["multipart/form-data"]["schema"]["properties"]
    posted = DOCUMENT["components"]["schemas"]["PostedTranscript"]["properties"]
    for name in SUBTITLE_FIELDS:
        assert posted[name].items() <= form[name].items()


def test_every_component_is_used() -> None:
    written = json.dumps(DOCUMENT)
    for kind in ("schemas", "responses", "headers"):
        for name in DOCUMENT["components"][kind]:
            assert f'"#/components/{kind}/{name}"' in written


def test_every_field_that_is_read_is_described_and_no_other() -> None:
    assert {each.name.removesuffix("[]") for each in PARAMETERS} == FIELDS_READ
    assert len(FIELDS_READ) > 20


def test_every_list_has_its_brackets() -> None:
    assert all(each.name.endswith("[]") == (each.schema.get("type") == "array") for each in PARAMETERS)


def test_every_error_is_described_and_no_other() -> None:
    unseen = {
        Cancelled.status,
        MethodNotAllowed.status,
    }  # nobody reads the one; no route that is described has the other
    described = {int(status) for _, _, operation in operations() for status in operation["responses"]}
    assert described - {200} == {error.status for error in descendants(SottoError)} - unseen


def test_paths_that_need_no_key_are_the_gate_s() -> None:
    assert {path for _, path, operation in operations() if operation.get("security") == []} <= OPEN_PATHS
    assert {path for _, path, operation in operations() if "security" not in operation}.isdisjoint(OPEN_PATHS)
