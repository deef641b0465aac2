"""Forms that nobody would write: whatever they hold, they are answered, or refused in the envelope."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import FormData, UploadFile
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.forms import parse_form
from server.api.openapi.parameters import PARAMETERS
from server.errors import InvalidRequest
from server.options import TranscriptionOptions
from server.settings import Settings
from server.transcript import SAMPLE_RATE, Task
from tests.support.bad_inputs import speech, wav
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model
from tests.support.wire import content_type, field, file, form, part

SETTINGS = Settings()
AUDIO = wav(speech()[:SAMPLE_RATE].tobytes())
UPLOAD = UploadFile(io.BytesIO(AUDIO), filename="speech.wav", size=len(AUDIO))
NAMES = [each.name.removesuffix("[]") for each in PARAMETERS]
KEYS = ["type", "threshold", "prefix_padding_ms", "silence_duration_ms"]
FITTING = (
    "whisper-1 gpt-transcribe demo en de zh-Hans auto json text srt vtt verbose_json diarized_json segment word "
    "logprobs segments progress server_vad true false null 0 1 0.2 5 300 nested openai"
).split()

scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(FITTING) | st.text(max_size=8)
structures = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=4)
    ),
    max_leaves=6,
)
names = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "", "extra_body[", " "]),
    st.sampled_from(NAMES) | st.text(max_size=5),
    st.sampled_from(["", "", "", "]", "[]"]),
    st.sampled_from(["", "", "", "[]", "[][]", "[0]", "[\u0663]", *(f"[{key}]" for key in KEYS)]),
)
texts = st.one_of(
    st.sampled_from(FITTING),
    st.text(max_size=20),
    structures.map(json.dumps),
    st.builds(
        str.__mul__, st.sampled_from(["[", '{"type":', '["a",', "9", "\0", "x", "-->\n"]), st.integers(1, 5_000)
    ),
)
uploads = st.builds(lambda data: UploadFile(io.BytesIO(data), filename="x", size=len(data)), st.binary(max_size=9))
pairs = st.lists(st.tuples(names, texts | texts | texts | uploads), max_size=8)


@given(pairs, st.booleans(), st.sampled_from(["transcribe", "translate"]))
@settings(max_examples=300)
def test_a_form_becomes_options_or_an_error_that_names_a_field(
    pairs: list[tuple[str, str | UploadFile]], whole: bool, task: Task
) -> None:
    needed: list[tuple[str, str | UploadFile]] = [("file", UPLOAD), ("model", "whisper-1")] if whole else []
    found = parsed(FormData([*needed, *pairs]), task)
    if isinstance(found, InvalidRequest):
        assert found.param in {None, *NAMES}
        assert len(found.message.encode()) < 1_000
    else:
        (found.decoding.prompt + found.decoding.hotwords).encode()


def parsed(form: FormData, task: Task) -> TranscriptionOptions | InvalidRequest:
    try:
        return parse_form(form, SETTINGS, task)[1]
    except InvalidRequest as error:
        return error


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    served = served_model(FakeEngine(), ("demo",), ("en", "de", "zh"))
    with TestClient(
        create_app(SETTINGS, registry_of(served), make_media())
    ) as client:  # raises what would be a 500
        yield client


def check(answer: httpx2.Response) -> None:
    """An answer in its format, or a whole envelope with a status that says whose fault it is."""
    kind = answer.headers["content-type"]
    body: Any = answer.json() if kind == "application/json" else {"text": answer.text}
    if answer.status_code == 200:
        assert isinstance(body["text"], str)
        return
    assert answer.status_code in {400, 404}, answer.text
    assert kind == "application/json"
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"


quotable = st.text(st.characters(exclude_characters='"\\\r\n', exclude_categories=["Cs"]), max_size=12)
dispositions = st.one_of(
    names.map('name="{}"'.format),
    names.map("name={}".format),
    st.builds('name="{}"; filename="{}"'.format, names, quotable),
    st.builds("name=\"{}\"; filename*=utf-8''{}".format, names, quotable),
    st.text(max_size=12),
)
headers = st.sampled_from(
    [
        (),
        ("Content-Type: application/json",),
        ("content-type: ;",),
        ("X: y",) * 9,
        ("no header",),
        ("Content-Type",),
    ]
)
contents = (texts | st.text(max_size=9)).map(lambda text: text.encode(errors="replace")) | st.binary(max_size=20)
parts = st.builds(
    lambda disposition, content, headers: part(disposition.encode(errors="replace").decode(), content, *headers),
    dispositions,
    contents,
    headers,
)
content_types = st.one_of(
    st.just(content_type()),
    st.just(content_type()),
    st.sampled_from(["", "; charset=utf-16", "; charset*=x", "; boundary=x", '; a="']).map(content_type().__add__),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).map("multipart/form-data;{}".format),
)


@given(
    st.lists(parts | st.builds(field, st.sampled_from(NAMES), st.sampled_from(FITTING)), max_size=6),
    st.booleans(),
    st.none() | st.integers(1, 400),
    content_types,
    st.sampled_from(["transcriptions", "translations"]),
)
@example([], True, None, content_type(), "transcriptions")
@example([field("languages[]", r'["\ud800"]')], True, None, content_type(), "transcriptions")
@example([field("chunking_strategy", r'{"type": "\ud800"}')], True, None, content_type(), "transcriptions")
@settings(max_examples=150)
def test_any_form_is_answered_or_refused(
    client: TestClient, parts: list[bytes], whole: bool, cut: int | None, content_type: str, route: str
) -> None:
    needed = [file(AUDIO), field("model", "whisper-1")] if whole else []
    body = form(*needed, *parts)
    answer = client.post(
        f"/v1/audio/{route}", content=body[:-cut] if cut else body, headers={"content-type": content_type}
    )
    check(answer)
