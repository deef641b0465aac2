import io

import pytest
from starlette.datastructures import FormData, UploadFile

from server.api.forms import PROMPT_CHARACTERS, Fields, parse_form
from server.errors import InvalidRequest
from server.options import FALLBACK_TEMPERATURES, RESPONSE_FORMATS, DecodingOptions, TranscriptionOptions
from server.settings import Settings

SETTINGS = Settings()
UPLOAD = UploadFile(io.BytesIO(b"sound"), filename="speech.wav")

Pairs = list[tuple[str, str | UploadFile]]


def parse(*pairs: tuple[str, str | UploadFile], settings: Settings = SETTINGS) -> TranscriptionOptions:
    return parse_form(FormData([("file", UPLOAD), ("model", "whisper-1"), *pairs]), settings, "transcribe")[1]


def refused(*pairs: tuple[str, str | UploadFile]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(*pairs)
    return caught.value


def test_form_of_a_file_and_a_model_gets_the_defaults() -> None:
    upload, options = parse_form(FormData([("model", "whisper-1"), ("file", UPLOAD)]), SETTINGS, "transcribe")
    assert upload is UPLOAD
    assert options == TranscriptionOptions(model="whisper-1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in "response_format language prompt temperature nested_words multilingual".split()),
        *((name, " \t\n") for name in "response_format language prompt temperature nested_words".split()),
        ("timestamp_granularities[]", ""),
        ("timestamp_granularities", "[]"),
        ("vad_filter", "whatever"),
        ("temperature_inc", "x"),
        ("language", "auto"),
        ("temperature", "0"),
        ("temperature", "0.0"),
        ("temperature", "-0"),
        ("response_format", "json"),
        ("nested_words", "false"),
    ],
)
def test_field_that_is_empty_unknown_or_default_changes_nothing(name: str, value: str) -> None:
    assert parse((name, value)) == TranscriptionOptions(model="whisper-1")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("x[]", "a"), ("x[]", "b")], ["a", "b"]),
        ([("x", "a"), ("x", "b")], ["a", "b"]),
        ([("x[][]", "a"), ("x[][]", "b")], ["a", "b"]),
        ([("x[0]", "a"), ("x[1]", "b")], ["a", "b"]),
        ([("extra_body[x][]", "a"), ("extra_body[x][]", "b")], ["a", "b"]),
        ([("extra_body[x]", "a"), ("extra_body[x][1]", "b")], ["a", "b"]),
        ([("x", '["a", "b"]')], ["a", "b"]),
        ([("x[]", ' [\n"a",\n"b"\n] ')], ["a", "b"]),
        ([("x[]", "a"), ("x", "b"), ("x[0]", '["c"]')], ["a", "b", "c"]),
        ([("x[]", "a"), ("x", "a"), ("x[]", "a")], ["a"]),
        ([("x[]", " a "), ("x[]", ""), ("x[]", "a")], ["a"]),
        ([("x[]", "")], []),
        ([("x", "[]")], []),
        ([("y[]", "a"), ("xx", "a"), ("x[a]", "a"), ("extra_body[xx][]", "a"), ("x.0", "a")], []),
        ([], []),
    ],
)
def test_list_is_read_in_every_spelling(pairs: Pairs, expected: list[str]) -> None:
    assert Fields(FormData(pairs)).items("x") == expected


@pytest.mark.parametrize(
    "value", ["[", '["word"', "[word]", "[1]", "[null]", '[["word"]]', '[{"a": 1}]', "[" * 200_000]
)
def test_list_that_is_no_array_of_strings_is_refused(value: str) -> None:
    error = refused(("timestamp_granularities", value))
    assert (error.param, error.code) == ("timestamp_granularities", "invalid_value")
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("True", True), ("1", True), ("on", True), ("no", False), ("0", False)]
)
def test_flag_is_read_as_people_write_it(value: str, expected: bool) -> None:
    assert parse(("nested_words", value)).nested_words is expected


def test_setting_is_a_flag_s_default_and_the_request_s_word_goes_before_it() -> None:
    settings = Settings(nested_words=True, beam_size=1)
    assert parse(settings=settings).nested_words
    assert parse(settings=settings).decoding.beam_size == 1
    assert not parse(("nested_words", "false"), settings=settings).nested_words


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
def test_every_response_format_is_taken(response_format: str) -> None:
    assert parse(("response_format", response_format)).response_format == response_format


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", FALLBACK_TEMPERATURES),
        ("0.2", (0.2,)),
        (" 1 ", (1.0,)),
        ("1e-1", (0.1,)),
    ],
)
def test_temperature_above_zero_stands_alone(value: str, expected: tuple[float, ...]) -> None:
    assert parse(("temperature", value)).decoding.temperatures == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("en", "en"),
        ("EN", "en"),
        ("English", "en"),
        ("pt-BR", "pt"),
        ("zh_TW", "zh"),
        ("zh-Hans-CN", "zh"),
        ("haitian creole", "ht"),
        ("Mandarin", "zh"),
        ("jv", "jw"),
        ("yue", "yue"),
        (" de ", "de"),
        ("AUTO", None),
    ],
)
def test_language_is_a_code_a_name_or_a_tag(value: str, expected: str | None) -> None:
    assert parse(("language", value)).decoding.language == expected


@pytest.mark.parametrize(
    ("pairs", "granularities", "word_timestamps"),
    [
        ([], {"segment"}, False),
        ([("timestamp_granularities[]", "word")], {"word"}, True),
        ([("timestamp_granularities[]", "segment")], {"segment"}, False),
        ([("timestamp_granularities", '["segment","word"]')], {"segment", "word"}, True),
    ],
)
def test_words_are_made_where_they_are_asked_for(
    pairs: Pairs, granularities: set[str], word_timestamps: bool
) -> None:
    options = parse(("response_format", "verbose_json"), *pairs)
    assert options.granularities == granularities
    assert options.decoding.word_timestamps is word_timestamps


def test_words_are_not_made_where_the_format_has_none() -> None:
    options = parse(("response_format", "srt"), ("timestamp_granularities[]", "word"))
    assert options.decoding == DecodingOptions()


def test_end_of_a_long_prompt_is_kept() -> None:
    prompt = parse(("prompt", "a" * PROMPT_CHARACTERS + "b" * 10)).decoding.prompt
    assert prompt == "a" * (PROMPT_CHARACTERS - 10) + "b" * 10


def test_last_of_two_values_counts() -> None:
    assert parse(("language", "en"), ("language", "de")).decoding.language == "de"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("temperature", "warm", "invalid_value"),
        ("temperature", "nan", "invalid_value"),
        ("temperature", "-1", "invalid_value"),
        ("temperature", "2", "invalid_value"),
        ("temperature", "1e999", "invalid_value"),
        ("temperature", "9" * 10_000, "invalid_value"),
        ("response_format", "xml", "invalid_value"),
        ("response_format", "JSON!" * 1_000, "invalid_value"),
        ("response_format", "diarized_json", "invalid_value"),
        ("timestamp_granularities", "sentence", "invalid_value"),
        ("language", "xx", "invalid_language_format"),
        ("language", "Klingon", "invalid_language_format"),
        ("language", "x" * 10_000, "invalid_language_format"),
        ("nested_words", "perhaps", "invalid_value"),
        ("multilingual", "2", "invalid_value"),
    ],
)
def test_bad_value_is_refused_by_the_field_s_name(name: str, value: str, code: str) -> None:
    error = refused((name, value))
    assert (error.status, error.type, error.param, error.code) == (400, "invalid_request_error", name, code)
    assert len(error.message) < 300


@pytest.mark.parametrize(
    "name", "model response_format language prompt temperature nested_words timestamp_granularities".split()
)
def test_file_in_a_text_field_s_place_is_refused(name: str) -> None:
    error = refused((name, UPLOAD))
    assert (error.param, error.code) == (name, "invalid_value")


@pytest.mark.parametrize(
    ("pairs", "param", "message"),
    [
        ([("model", "whisper-1")], None, "field required"),
        ([("model", "whisper-1"), ("file", "sound")], "file", "must be an uploaded file"),
        ([("file", UPLOAD)], "model", "you must provide a model parameter"),
        ([("file", UPLOAD), ("model", " ")], "model", "you must provide a model parameter"),
    ],
)
def test_file_and_model_are_required(pairs: Pairs, param: str | None, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_form(FormData(pairs), SETTINGS, "transcribe")
    assert caught.value.param == param


def test_previous_text_conditions_where_the_request_or_the_setting_says_so() -> None:
    assert not parse().decoding.condition_on_previous_text
    assert parse(("condition_on_previous_text", "true")).decoding.condition_on_previous_text
    assert parse(settings=Settings(condition_on_previous_text=True)).decoding.condition_on_previous_text


def test_task_is_that_of_the_route() -> None:
    _, options = parse_form(FormData([("file", UPLOAD), ("model", "whisper-1")]), SETTINGS, "translate")
    assert options.decoding.task == "translate"


def test_stream_is_an_option() -> None:
    assert parse(("stream", "true")).stream
    assert parse(("stream", "false")) == parse()
