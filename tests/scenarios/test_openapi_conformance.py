"""A real server answers what its own OpenAPI document allows, and much that it doesn't, as the document says."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from server.api.forms import SUBTITLE_FIELDS
from server.api.openapi.document import describe
from tests.conftest import DEMO
from tests.support.serving import Running, serving

pytestmark = pytest.mark.slow

ADMIN = "admin-key-0123456789abcdefgh"
# Not among them: that each valid form is accepted (some fields exclude each other), and each invalid one rejected
# (the server is lenient about spellings, as clients need it).
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    unsupported_method,
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SAMPLE = (DEMO / "sample.wav").read_bytes()
TRANSLATION = "/v1/audio/translations"
KNOWN = {
    "model": ["demo", "whisper-1", "gpt-4o-transcribe"],
    "language": ["en", "auto", "German"],
    "keep_alive": ["5m", "-1"],
}

Seen = dict[str, set[tuple[int, str]]]


@schemathesis.deserializer("text/event-stream")
def parsed_events(context: Any, response: Any) -> list[Any]:
    """The JSON of each event, which is what our document describes, as OpenAI's does."""
    lines = response.content.decode().split("\r\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def narrowed(part: Any) -> Any:
    """The document with `KNOWN` values where a text drawn at random would always be wrong."""
    if isinstance(part, list):
        return [narrowed(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("name") in KNOWN:
        return {**part, "schema": {"enum": KNOWN[part["name"]]}}
    return {
        name: {"enum": KNOWN[name]} if name in KNOWN and each.get("type") == "string" else narrowed(each)
        for name, each in part.items()
    }


def probed() -> dict[str, Any]:
    """The document to try: of the two equal forms, one without the fields that most formats refuse."""
    document: dict[str, Any] = narrowed(describe())
    form = document["paths"][TRANSLATION]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    for name in SUBTITLE_FIELDS:
        del form["properties"][name]
    return document


schemathesis.openapi.format("binary", st.sampled_from([SAMPLE, SAMPLE[:100], b""]))
schema = schemathesis.openapi.from_dict(probed())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(models_dir=tmp_path_factory.mktemp("models"), admin_keys=f"boss {ADMIN}", offline=1) as running:
        yield running


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Status and content type of every answer, by operation."""
    return defaultdict(set)


@schema.parametrize()
@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[*HealthCheck])
def test_answers_are_as_described(case: schemathesis.Case[Any], server: Running, seen: Seen) -> None:
    answer = case.call_and_validate(server.base_url, headers={"authorization": f"Bearer {ADMIN}"}, checks=CHECKS)
    content_type, *_ = answer.headers["content-type"][0].partition(";")
    seen[case.operation.label].add((answer.status_code, content_type))


def test_that_tried_more_than_errors(seen: Seen) -> None:
    """Reads what the test above has seen."""
    if not seen:
        pytest.skip("runs with the test above")
    labels = {f"{method.upper()} {path}" for path, methods in describe()["paths"].items() for method in methods}
    answered = {label for label, answers in seen.items() if any(status == 200 for status, _ in answers)}
    assert labels - answered == {"DELETE /v1/models/{model}"}  # there is none but the bundled one
    kinds = {kind for status, kind in seen[f"POST {TRANSLATION}"] if status == 200}
    assert kinds == {"application/json", "text/plain", "text/event-stream"}
