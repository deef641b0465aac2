"""Contract, section 2: which fields a request has, and how they come. What each does is in tests/api."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from starlette.datastructures import FormData, UploadFile
from starlette.testclient import TestClient

from server.api.forms import parse_form
from server.api.openapi.parameters import PARAMETERS
from server.options import RESPONSE_FORMATS, TranscriptionOptions, VadOptions
from server.settings import Settings
from tests.contract.asking import SILENCE, ask
from tests.contract.schemas import OPENAI

PUBLISHED = OPENAI["components"]["schemas"]
REQUEST = PUBLISHED["CreateTranscriptionRequest"]
MODELS = REQUEST["properties"]["model"]["anyOf"][1]["enum"]
OURS = {each.name.removesuffix("[]"): each for each in PARAMETERS}
LISTS = {  # of the others, known speakers', nothing is kept
    "timestamp_granularities": ["word", "segment"],
    "languages": ["en", "de"],
    "keywords": ["Sotto", "Whisper"],
    "include": ["logprobs"],
    "stream_events": ["segments", "progress"],
}
Pairs = list[tuple[str, str]]
ENCODINGS: dict[str, Callable[[str, list[str]], Pairs]] = {
    "x": lambda name, values: [(name, value) for value in values],
    "x[][]": lambda name, values: [(f"{name}[][]", value) for value in values],
    "x[0]": lambda name, values: [(f"{name}[{index}]", value) for index, value in enumerate(values)],
    "extra_body[x][]": lambda name, values: [(f"extra_body[{name}][]", value) for value in values],
    "JSON": lambda name, values: [(name, "[" + ",".join(f'"{value}"' for value in values) + "]")],
    "mixed, with doubles": lambda name, values: [*((f"{name}[]", each) for each in values), (name, values[-1])],
}


def parse(*pairs: tuple[str, str]) -> TranscriptionOptions:
    upload = UploadFile(BytesIO(b"sound"), filename="speech.wav")
    base: list[tuple[str, str | UploadFile]] = [
        ("file", upload),
        ("model", "whisper-1"),
        ("response_format", "verbose_json"),
        ("stream", "true"),
    ]
    return parse_form(FormData([*base, *pairs]), Settings(), "transcribe")[1]


@pytest.mark.parametrize("name", REQUEST["properties"])
def test_every_field_of_openai_s_is_one_of_ours(name: str) -> None:
    ours, theirs = OURS[name], REQUEST["properties"][name]
    assert not ours.ours
    assert ours.required == (name in REQUEST["required"])
    assert ours.name.endswith("[]") == (theirs.get("type") == "array")
    assert ours.schema.get("default", theirs.get("default")) == theirs.get("default", ours.schema.get("default"))


@pytest.mark.parametrize("name", OURS)
def test_a_field_of_ours_that_openai_has_not_is_marked(name: str) -> None:
    assert OURS[name].ours == (name not in REQUEST["properties"])


def test_every_openai_format_but_diarized_json_is_served() -> None:
    assert set(PUBLISHED["AudioResponseFormat"]["enum"]) - set(RESPONSE_FORMATS) == {"diarized_json"}


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_of_openai_s_serves_every_format(client: TestClient, model: str, response_format: str) -> None:
    answer = ask(client, {"model": model, "response_format": response_format}, audio=SILENCE)
    assert answer.status_code == 200


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_read_in_every_encoding(name: str, encoding: str) -> None:
    plainly = parse(*((f"{name}[]", value) for value in LISTS[name]))
    assert parse(*ENCODINGS[encoding](name, LISTS[name])) == plainly
    assert plainly != parse()


def defaults_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: each["default"] for name, each in schema["properties"].items() if "default" in each}


def test_server_vad_has_openai_s_defaults() -> None:
    published = defaults_of(PUBLISHED["VadConfig"])
    assert defaults_of(OURS["chunking_strategy"].schema["oneOf"][1]) == published
    assert parse(("chunking_strategy[type]", "server_vad")).vad == VadOptions(**published)
