import io
import math

import pytest
from starlette.datastructures import FormData, UploadFile

from server.api.forms import PROMPT_CHARACTERS, parse_form
from server.errors import InvalidRequest
from server.options import (
    FALLBACK_TEMPERATURES,
    MAX_BEAM_SIZE,
    MAX_SPEAKERS,
    MAX_VAD_MS,
    RESPONSE_FORMATS,
    DecodingOptions,
    SubtitleOptions,
    TranscriptionOptions,
    VadOptions,
)
from server.settings import Settings

SETTINGS = Settings()
EVERY_FIELD = (
    "response_format language languages[] prompt temperature timestamp_granularities[] stream stream_events[] "
    "include[] chunking_strategy chunking_strategy[type] keywords[] hotwords vad_filter beam_size nested_words "
    "response_dialect condition_on_previous_text multilingual known_speaker_names[] known_speaker_references[] "
    "max_line_width max_line_count min_cue_seconds max_cue_seconds keep_alive"
).split()
UPLOAD = UploadFile(io.BytesIO(b"sound"), filename="speech.wav")

Pairs = list[tuple[str, str | UploadFile]]


def parse(*pairs: tuple[str, str | UploadFile], settings: Settings = SETTINGS) -> TranscriptionOptions:
    return parse_form(FormData([("file", UPLOAD), ("model", "whisper-1"), *pairs]), settings, "transcribe")[1]


def refused(*pairs: tuple[str, str | UploadFile]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(*pairs)
    return caught.value


def test_a_form_of_a_file_and_a_model_gets_the_defaults() -> None:
    upload, options = parse_form(FormData([("model", "whisper-1"), ("file", UPLOAD)]), SETTINGS, "transcribe")
    assert upload is UPLOAD
    assert options == TranscriptionOptions(model="whisper-1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in EVERY_FIELD),
        *((name, " \t\n") for name in EVERY_FIELD),
        *((name, "null") for name in EVERY_FIELD),
        ("timestamp_granularities[]", ""),
        ("timestamp_granularities", "[]"),
        ("vad_filter", "true"),
        ("chunking_strategy", "auto"),
        ("chunking_strategy", '"auto"'),
        ("languages", "[]"),
        ("keywords", "[]"),
        ("stream", "false"),
        ("response_dialect", "openai"),
        ("beam_size", "5"),
        ("known_speaker_names[]", "Ada"),
        ("known_speaker_references[]", "data:audio/wav;base64," + "A" * 2_000_000),
        ("temperature_inc", "x"),
        ("diarize", "whatever"),
        ("language", "auto"),
        ("temperature", "0"),
        ("temperature", "0.0"),
        ("temperature", "-0"),
        ("response_format", "json"),
        ("nested_words", "false"),
    ],
)
def test_a_field_that_is_empty_unknown_or_default_changes_nothing(name: str, value: str) -> None:
    assert parse((name, value)) == TranscriptionOptions(model="whisper-1")


def test_a_setting_is_the_default_of_a_flag_that_a_request_may_override() -> None:
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


def test_words_are_not_computed_for_formats_without_them() -> None:
    options = parse(("response_format", "srt"), ("timestamp_granularities[]", "word"))
    assert options.decoding == DecodingOptions()


def test_end_of_a_long_prompt_is_kept() -> None:
    prompt = parse(("prompt", "a" * PROMPT_CHARACTERS + "b" * 10)).decoding.prompt
    assert prompt == "a" * (PROMPT_CHARACTERS - 10) + "b" * 10


@pytest.mark.parametrize("name", ["languages", "languages[]", "extra_body[languages][]"])
def test_one_of_several_languages_is_detected(name: str) -> None:
    decoding = parse((name, "de"), (name, "English"), (name, "de-AT")).decoding
    assert (decoding.language, decoding.languages) == (None, ("de", "en"))


def test_single_one_of_languages_is_the_language() -> None:
    decoding = parse(("languages[]", "pt-BR"), ("language", "auto")).decoding
    assert (decoding.language, decoding.languages) == ("pt", ("pt",))


def test_language_and_languages_exclude_each_other() -> None:
    error = refused(("language", "de"), ("languages[]", "en"))
    assert (error.param, error.code) == ("languages", "invalid_value")


@pytest.mark.parametrize(
    ("pairs", "hotwords"),
    [
        ([("keywords[]", "Sotto"), ("keywords[]", "Grüße, Ada!")], "Sotto, Grüße, Ada!"),
        ([("keywords", '["Sotto", "Ada"]')], "Sotto, Ada"),
        ([("hotwords", "Sotto Ada")], "Sotto Ada"),
        ([("keywords[]", "Ada"), ("hotwords", "Sotto")], "Sotto, Ada"),
        ([("extra_body[hotwords]", "Sotto")], "Sotto"),
        ([("hotwords", "x" * 10_000)], "x" * PROMPT_CHARACTERS),
    ],
)
def test_keywords_are_hotwords(pairs: Pairs, hotwords: str) -> None:
    assert parse(*pairs).decoding.hotwords == hotwords


@pytest.mark.parametrize("keyword", ["a\nb", "a\r\nb", "a\rb", "a\u2028b", "<b", "a>"])
def test_a_keyword_that_openai_refuses_is_refused(keyword: str) -> None:
    error = refused(("keywords[]", "good"), ("keywords[]", keyword))
    assert (error.param, error.code) == ("keywords", "invalid_value")


@pytest.mark.parametrize(
    ("pairs", "made"),
    [
        ([], False),
        ([("include[]", "logprobs")], True),
        ([("include[]", "logprobs"), ("stream", "true"), ("response_format", "text")], True),
        ([("include[]", "logprobs"), ("response_format", "verbose_json")], False),
        ([("include[]", "logprobs"), ("response_format", "srt")], False),
    ],
)
def test_logprobs_are_made_where_they_are_shown(pairs: Pairs, made: bool) -> None:
    assert parse(*pairs).decoding.token_logprobs is made


@pytest.mark.parametrize(
    ("pairs", "made"),
    [
        ([("stream_events", "segments")], True),
        ([("stream_events", "progress")], False),
        ([("response_format", "verbose_json")], False),
    ],
)
def test_words_of_a_stream_are_made_where_segments_show_them(pairs: Pairs, made: bool) -> None:
    options = parse(("stream", "true"), ("timestamp_granularities[]", "word"), *pairs)
    assert options.decoding.word_timestamps is made


@pytest.mark.parametrize("response_format", ["srt", "vtt"])
@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("max_line_width", "32")], SubtitleOptions(max_line_width=32)),
        ([("max_line_count", "1"), ("max_cue_seconds", "4.5")], SubtitleOptions(max_line_count=1, max_cue_s=4.5)),
        ([("min_cue_seconds", "0")], SubtitleOptions(min_cue_s=0)),
        ([("max_cue_seconds", "0.5")], SubtitleOptions(min_cue_s=0.5, max_cue_s=0.5)),
        ([("extra_body[max_line_width]", "50")], SubtitleOptions(max_line_width=50)),
    ],
)
def test_any_field_of_subtitles_shapes_them_and_asks_for_words(
    response_format: str, pairs: Pairs, expected: SubtitleOptions
) -> None:
    options = parse(("response_format", response_format), *pairs)
    assert options.subtitles == expected
    assert options.decoding.word_timestamps


def test_subtitles_are_not_shaped_unless_asked() -> None:
    options = parse(("response_format", "srt"), ("max_line_width", ""))
    assert options.subtitles is None
    assert not options.decoding.word_timestamps


@pytest.mark.parametrize("name", ["max_line_width", "max_line_count", "min_cue_seconds", "max_cue_seconds"])
@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "'json'"),
        ([("response_format", "text")], "'text'"),
        ([("response_format", "verbose_json")], "'verbose_json'"),
        ([("response_format", "srt"), ("stream", "true")], "'stream'"),
    ],
)
def test_fields_of_subtitles_are_refused_where_there_are_none(name: str, pairs: Pairs, expected: str) -> None:
    error = refused(*pairs, (name, "2"))
    assert (error.param, error.code) == (name, "invalid_value")
    assert expected in error.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_line_width", value) for value in ("0", "201", "1.5", "wide")),
        *(("max_line_count", value) for value in ("0", "6")),
        *(("min_cue_seconds", value) for value in ("-1", "31", "7.5", "nan")),
        *(("max_cue_seconds", value) for value in ("0", "31", "inf")),
    ],
)
def test_bad_shapes_of_subtitles_are_refused(name: str, value: str) -> None:
    error = refused(("response_format", "vtt"), (name, value))
    assert (error.status, error.param, error.code) == (400, name, "invalid_value")


SERVER_VAD = VadOptions(threshold=0.4, prefix_padding_ms=100, silence_duration_ms=500)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (
            [
                ("chunking_strategy[type]", "server_vad"),
                ("chunking_strategy[threshold]", "0.4"),
                ("chunking_strategy[prefix_padding_ms]", "100"),
                ("chunking_strategy[silence_duration_ms]", "500"),
            ],
            SERVER_VAD,
        ),
        (
            [
                ("extra_body[chunking_strategy][type]", "server_vad"),
                ("extra_body[chunking_strategy][threshold]", "0.4"),
                ("extra_body[chunking_strategy][prefix_padding_ms]", "100"),
                ("extra_body[chunking_strategy][silence_duration_ms]", "500"),
            ],
            SERVER_VAD,
        ),
        (
            [
                (
                    "chunking_strategy",
                    '{"type":"server_vad","threshold":0.4,"prefix_padding_ms":100,"silence_duration_ms":500.0}',
                )
            ],
            SERVER_VAD,
        ),
        (
            [("chunking_strategy[type]", "server_vad")],
            VadOptions(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=200),
        ),
        (
            [("chunking_strategy", '{"type": "server_vad", "threshold": null, "idle_timeout_ms": 1}')],
            VadOptions(threshold=0.5, prefix_padding_ms=300, silence_duration_ms=200),
        ),
        (
            [("chunking_strategy", '{"type": "server_vad", "threshold": 0, "silence_duration_ms": 0}')],
            VadOptions(threshold=0, prefix_padding_ms=300, silence_duration_ms=0),
        ),
        ([("vad_filter", "false")], VadOptions(enabled=False)),
        ([("vad_filter", "false"), ("chunking_strategy", "auto")], VadOptions(enabled=False)),
        ([("vad_filter", "true"), ("chunking_strategy[type]", "server_vad")], VadOptions(True, 0.5, 300, 200)),
    ],
)
def test_voice_detection_follows_the_request(pairs: Pairs, expected: VadOptions) -> None:
    assert parse(*pairs).vad == expected


@pytest.mark.parametrize(
    "pairs",
    [
        [("chunking_strategy", "server_vad")],
        [("chunking_strategy", "none")],
        [("chunking_strategy", "{}")],
        [("chunking_strategy", '{"type": "semantic_vad"}')],
        [("chunking_strategy", '{"type": "server_vad"')],
        [("chunking_strategy", '["server_vad"]')],
        [("chunking_strategy[threshold]", "0.5")],
        [("chunking_strategy[type]", "semantic_vad")],
        *(
            [("chunking_strategy[type]", "server_vad"), (f"chunking_strategy[{name}]", value)]
            for name, value in [
                ("threshold", "1.01"),
                ("threshold", "-0.1"),
                ("threshold", "high"),
                ("prefix_padding_ms", "-1"),
                ("prefix_padding_ms", "0.5"),
                ("silence_duration_ms", f"{MAX_VAD_MS + 1}"),
                ("silence_duration_ms", "1e400"),
            ]
        ),
        [("chunking_strategy", '{"type": "server_vad", "threshold": true}')],
        [("chunking_strategy", '{"type": "server_vad", "threshold": [0.5]}')],
        [("vad_filter", "false"), ("chunking_strategy", "server_vad")],
    ],
)
def test_an_invalid_chunking_strategy_is_refused(pairs: Pairs) -> None:
    error = refused(*pairs)
    assert (error.param, error.code) == ("chunking_strategy", "invalid_value")


@pytest.mark.parametrize("name", ["known_speaker_names[]", "known_speaker_references"])
def test_known_speakers_are_four_at_most(name: str) -> None:
    pairs: Pairs = [(name, f"{number}") for number in range(MAX_SPEAKERS)]
    assert parse(*pairs) == parse()
    assert refused(*pairs, (name, "one more")).param == name.removesuffix("[]")


@pytest.mark.parametrize("value", [1, MAX_BEAM_SIZE])
def test_beam_size_is_the_request_s_within_the_setting_s_limits(value: int) -> None:
    assert parse(("beam_size", f"{value}")).decoding.beam_size == Settings(beam_size=value).beam_size == value


@pytest.mark.parametrize(
    ("value", "seconds"), [("90", 90), ("5m", 300), ("0", 0), ("-1", math.inf), ("-1s", math.inf)]
)
def test_keep_alive_is_a_number_of_seconds_or_a_duration(value: str, seconds: float) -> None:
    assert parse(("keep_alive", value)).keep_alive_s == seconds


def test_beam_size_beyond_the_setting_s_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="beam_size"):
        Settings(beam_size=MAX_BEAM_SIZE + 1)
    assert refused(("beam_size", f"{MAX_BEAM_SIZE + 1}")).param == "beam_size"


def test_stream_events_are_picked() -> None:
    assert parse(("stream_events[]", "segments")).stream_events == {"segments"}
    assert parse(("stream_events", '["progress","segments"]')).stream_events == {"progress", "segments"}


def test_the_dialect_is_the_setting_s_unless_the_request_has_its_own() -> None:
    nested = Settings(response_dialect="nested")
    assert parse(("response_dialect", "nested")).response_dialect == "nested"
    assert parse(settings=nested).response_dialect == "nested"
    assert parse(("response_dialect", "openai"), settings=nested).response_dialect == "openai"


def test_diarized_json_is_refused_as_an_unfit_format_and_says_why() -> None:
    error = refused(("response_format", "diarized_json"))
    assert (error.param, error.code) == ("response_format", "unsupported_value")
    assert error.message.startswith("response_format 'diarized_json' is not compatible with model 'whisper-1'")
    assert "this server has no diarization" in error.message


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
        ("languages", "xx", "invalid_language_format"),
        ("languages", "auto", "invalid_language_format"),
        ("include", "usage", "invalid_value"),
        ("stream", "perhaps", "invalid_value"),
        ("stream_events", "words", "invalid_value"),
        ("vad_filter", "whatever", "invalid_value"),
        ("beam_size", "0", "invalid_value"),
        ("keep_alive", "soon", "invalid_value"),
        ("keep_alive", "5 minutes", "invalid_value"),
        ("beam_size", "1.5", "invalid_value"),
        ("beam_size", "large", "invalid_value"),
        ("response_dialect", "groq", "invalid_value"),
        ("condition_on_previous_text", "maybe", "invalid_value"),
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


@pytest.mark.parametrize("name", ["model", *EVERY_FIELD])
def test_a_file_in_a_text_field_s_place_is_refused(name: str) -> None:
    error = refused(("chunking_strategy[type]", "server_vad"), (name, UPLOAD))
    assert (error.param, error.code) == (name.partition("[")[0], "invalid_value")


@pytest.mark.parametrize(
    ("pairs", "param", "message"),
    [
        ([("model", "whisper-1")], None, "field required"),
        ([("model", "whisper-1"), ("file", "sound")], "file", "must be an uploaded file"),
        ([("file", UPLOAD)], None, "you must provide a model parameter"),
        ([("file", UPLOAD), ("model", " ")], None, "you must provide a model parameter"),
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


def test_a_stream_is_an_option() -> None:
    assert parse(("stream", "true")).stream
    assert parse(("stream", "false")) == parse()
