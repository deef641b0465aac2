import html
import json
import math
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import srt
import webvtt
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.audio import Transcription, TranscriptionVerbose, Translation, TranslationVerbose

from server.formats.render import (
    FORMATS,
    bare_word,
    render,
    segment_dict,
    timestamp,
    to_json,
    token_usage,
    usage,
    word_dict,
)
from server.formats.subtitles import cue_text
from server.options import (
    RESPONSE_FORMATS,
    DecodingOptions,
    Granularity,
    ResponseFormat,
    SubtitleOptions,
    TranscriptionOptions,
)
from server.transcript import Segment, Task, TokenLogprob, Transcript, Word

SEGMENT_FIELDS = set(
    "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob".split()
)
SHORT = Segment(
    id=0,
    seek=0,
    start=0.0,
    end=1.4600000381469727,
    text=" Hello world, this is a test.",
    tokens=(50364, 2425, 1002, 11, 341, 307, 257, 1500, 13, 50464),
    temperature=0.4,
    avg_logprob=-0.5043297410011292,
    compression_ratio=0.8235294222831726,
    no_speech_prob=0.002052504802122712,
    words=(Word(" Hello", 0.0, 0.3199999928474426, 0.87654321), Word(" test.", 1.14, 1.46, 0.9)),
)
BOTH: frozenset[Granularity] = frozenset({"segment", "word"})
WORDS: frozenset[Granularity] = frozenset({"word"})


def segment(text: str, start: float = 0.0, end: float = 1.0, *words: Word) -> Segment:
    return replace(SHORT, text=text, start=start, end=end, words=words)


def transcript(*segments: Segment, duration_s: float = 1.7, task: Task = "transcribe") -> Transcript:
    return Transcript(task, "en", 0.99, duration_s, segments)


def body(value: Transcript, response_format: ResponseFormat = "json", **options: Any) -> str:
    return render(value, TranscriptionOptions(response_format=response_format, **options))[1].decode()


def verbose(value: Transcript, **options: Any) -> dict[str, Any]:
    answer = json.loads(body(value, "verbose_json", **options))
    assert isinstance(answer, dict)
    return answer


def test_every_response_format_has_an_entry() -> None:
    assert tuple(sorted(FORMATS)) == tuple(sorted(RESPONSE_FORMATS))


@pytest.mark.parametrize(
    ("response_format", "content_type"),
    [
        ("json", "application/json"),
        ("verbose_json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "text/plain; charset=utf-8"),
        ("vtt", "text/plain; charset=utf-8"),
    ],
)
def test_content_types_are_those_of_the_cloud(response_format: ResponseFormat, content_type: str) -> None:
    assert render(transcript(SHORT), TranscriptionOptions(response_format=response_format))[0] == content_type


# Bodies as recorded from api.openai.com.


def test_json_equals_the_recorded_body() -> None:
    recorded = b'{"text":"Hello, world! This is a test.","usage":{"type":"duration","seconds":2}}'
    spoken = transcript(segment(" Hello, world!"), segment(" This is a test."))
    assert render(spoken, TranscriptionOptions(response_format="json")) == ("application/json", recorded)
    assert len(recorded) == 80


def test_text_is_the_transcript_and_one_newline() -> None:
    assert body(transcript(segment(" Hello, world!"), segment(" This is a test. ")), "text") == (
        "Hello, world! This is a test.\n"
    )


CUES = transcript(segment(" First cue.", 0.0, 11.0), segment(" Second cue.", 11.0, 20.0), duration_s=20.0)


def test_srt_ends_with_one_newline_more_than_its_last_cue() -> None:
    assert body(CUES, "srt") == (
        "1\n00:00:00,000 --> 00:00:11,000\nFirst cue.\n\n2\n00:00:11,000 --> 00:00:20,000\nSecond cue.\n\n\n"
    )


def test_vtt_has_hours_and_no_cue_numbers() -> None:
    assert body(CUES, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:11.000\nFirst cue.\n\n00:00:11.000 --> 00:00:20.000\nSecond cue.\n\n"
    )


def test_verbose_json_byte_for_byte() -> None:
    assert body(transcript(SHORT), "verbose_json", granularities=BOTH) == (
        '{"task":"transcribe","language":"english","language_code":"en","duration":1.7,'
        '"text":"Hello world, this is a test.",'
        '"segments":[{"id":0,"seek":0,"start":0.0,"end":1.46,"text":" Hello world, this is a test.",'
        '"tokens":[50364,2425,1002,11,341,307,257,1500,13,50464],"temperature":0.4,'
        '"avg_logprob":-0.5043297410011292,"compression_ratio":0.8235294222831726,'
        '"no_speech_prob":0.002052504802122712}],'
        '"words":[{"word":"Hello","start":0.0,"end":0.32,"probability":0.8765},'
        '{"word":"test","start":1.14,"end":1.46,"probability":0.9}],'
        '"usage":{"type":"duration","seconds":2}}'
    )


def test_json_is_not_escaped_to_ascii() -> None:
    assert body(transcript(segment(" Grüße, 世界 😀"))) == (
        '{"text":"Grüße, 世界 😀","usage":{"type":"duration","seconds":2}}'
    )


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ("json", '{"text":"","usage":{"type":"duration","seconds":2}}'),
        ("text", "\n"),
        ("srt", "\n"),
        ("vtt", "WEBVTT\n\n"),
        (
            "verbose_json",
            '{"task":"transcribe","language":"english","language_code":"en","duration":1.7,"text":"",'
            '"segments":[],"words":[],"usage":{"type":"duration","seconds":2}}',
        ),
    ],
)
def test_silence_gives_an_empty_body_of_the_same_shape(response_format: ResponseFormat, expected: str) -> None:
    assert body(transcript(), response_format, granularities=BOTH) == expected


# Which keys are there.


@pytest.mark.parametrize(
    ("granularities", "present"),
    [
        (frozenset(), {"segments"}),
        (frozenset({"segment"}), {"segments"}),
        (WORDS, {"words"}),
        (BOTH, {"segments", "words"}),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_granularities_pick_segments_and_words(
    granularities: frozenset[Granularity], present: set[str], nested: bool
) -> None:
    answer = verbose(transcript(SHORT), granularities=granularities, nested_words=nested)
    always = {"task", "language", "language_code", "duration", "text", "usage"}
    assert set(answer) == always | present
    inside = {"words"} if nested and granularities == BOTH else set()
    assert all(set(entry) == SEGMENT_FIELDS | inside for entry in answer.get("segments", []))


def test_nested_words_repeat_those_of_the_top_level() -> None:
    second = segment(" again", 1.5, 1.7, Word(" again", 1.5, 1.7, 0.5))
    answer = verbose(transcript(SHORT, second), granularities=BOTH, nested_words=True)
    assert [len(entry["words"]) for entry in answer["segments"]] == [2, 1]
    assert [word for entry in answer["segments"] for word in entry["words"]] == answer["words"]


@pytest.mark.parametrize("granularities", [frozenset(), WORDS, BOTH])
def test_nested_dialect_has_a_language_code_and_words_only_inside_segments(
    granularities: frozenset[Granularity],
) -> None:
    openai = verbose(transcript(SHORT), granularities=BOTH)
    answer = verbose(transcript(SHORT), granularities=granularities, response_dialect="nested")
    assert answer["language"] == answer["language_code"] == "en"
    assert set(answer) == set(openai) - {"words"}
    (entry,) = answer["segments"]
    words = [each | {"word": word} for each, word in zip(openai["words"], ["Hello", "test."], strict=True)]
    assert entry.get("words") == (words if granularities else None)


def test_words_have_their_punctuation_in_the_nested_dialect_alone() -> None:
    spoken = segment(
        " \u201cHi, all.\u201d", 0.0, 1.0, Word(" \u201cHi,", 0.0, 0.4, 0.9), Word(" all.\u201d", 0.4, 1.0, 0.9)
    )
    nested = verbose(transcript(spoken), granularities=BOTH, response_dialect="nested")
    openai = verbose(transcript(spoken), granularities=BOTH, nested_words=True)
    assert [each["word"] for each in nested["segments"][0]["words"]] == ["\u201cHi,", "all.\u201d"]
    assert [each["word"] for each in openai["segments"][0]["words"]] == ["Hi", "all"]


def test_a_segment_that_was_not_aligned_has_no_words() -> None:
    answer = verbose(transcript(replace(SHORT, words=None)), granularities=BOTH, nested_words=True)
    assert answer["words"] == []
    assert answer["segments"][0]["words"] == []


def test_translations_are_english_and_carry_no_usage() -> None:
    translated = replace(transcript(SHORT, task="translate"), language="fr")
    assert json.loads(body(translated)) == {"text": "Hello world, this is a test."}
    answer = verbose(translated)
    assert (answer["task"], answer["language"], answer["language_code"]) == ("translate", "english", "en")
    assert "usage" not in answer


GPT = "gpt-4o-transcribe"
HEARD = transcript(
    replace(
        SHORT, text_tokens=8, logprobs=(TokenLogprob(" Hi", -0.25, b" Hi"), TokenLogprob("\ufffd", -2.5, b"\xc3"))
    ),
    replace(SHORT, text_tokens=3, logprobs=(TokenLogprob("\ufffd", math.nan, b"\xa9"),)),
    duration_s=1.61,
)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [("", False), ("whisper-1", False), ("demo", False), (GPT, True), ("GPT-4o-mini-transcribe-2025-03-20", True)],
)
def test_usage_of_json_is_in_tokens_for_the_cloud_s_gpt_models(model: str, tokens: bool) -> None:
    answer = json.loads(body(replace(HEARD, prompt_tokens=4), model=model))
    assert answer["usage"] == (
        {
            "type": "tokens",
            "input_tokens": 21,
            "input_token_details": {"text_tokens": 4, "audio_tokens": 17},
            "output_tokens": 11,
            "total_tokens": 32,
        }
        if tokens
        else {"type": "duration", "seconds": 2}
    )
    assert Transcription.model_validate_json(json.dumps(answer), strict=True).usage


@pytest.mark.parametrize("duration_s", [0.1, 1.7, 1.7000000476837158, 2.0, 7200.5])
def test_audio_tokens_are_tenths_of_a_second_rounded_up(duration_s: float) -> None:
    details = token_usage(transcript(duration_s=duration_s))["input_token_details"]
    assert details == {"text_tokens": 0, "audio_tokens": math.ceil(round(duration_s, 3) * 10)}


def test_usage_of_verbose_json_is_never_in_tokens() -> None:
    assert verbose(HEARD, model=GPT)["usage"] == {"type": "duration", "seconds": 2}


def test_logprobs_are_present_if_requested() -> None:
    assert "logprobs" not in json.loads(body(HEARD))
    asked = body(HEARD, decoding=DecodingOptions(token_logprobs=True))
    assert json.loads(asked)["logprobs"] == [
        {"token": " Hi", "logprob": -0.25, "bytes": [32, 72, 105]},
        {"token": "\ufffd", "logprob": -2.5, "bytes": [195]},
        {"token": "\ufffd", "logprob": -100.0, "bytes": [169]},
    ]
    read = Transcription.model_validate_json(asked, strict=True)
    assert [each.token for each in read.logprobs or []] == [" Hi", "\ufffd", "\ufffd"]


def test_logprobs_of_silence_are_an_empty_list() -> None:
    answer = json.loads(body(transcript(), decoding=DecodingOptions(token_logprobs=True)))
    assert answer["logprobs"] == []


@pytest.mark.parametrize(
    ("model", "asked", "value", "languages"),
    [
        ("gpt-transcribe", (), HEARD, [{"code": "en"}]),
        ("gpt-transcribe", (), transcript(), []),
        ("whisper-1", ("de", "en"), HEARD, [{"code": "en"}]),
        ("whisper-1", (), HEARD, None),
        (GPT, (), HEARD, None),
        ("gpt-transcribe", ("en",), replace(HEARD, task="translate"), None),
    ],
)
def test_json_has_languages_if_openai_would_or_if_some_were_named(
    model: str, asked: tuple[str, ...], value: Transcript, languages: object
) -> None:
    answer = json.loads(body(value, model=model, decoding=DecodingOptions(languages=asked)))
    assert answer.get("languages") == languages


@pytest.mark.parametrize(("code", "name"), [("de", "german"), ("yue", "cantonese"), ("xx", "xx"), ("", "")])
def test_language_is_a_name_beside_its_code(code: str, name: str) -> None:
    answer = verbose(replace(transcript(SHORT), language=code))
    assert (answer["language"], answer["language_code"]) == (name, code)


# The openai SDK's own types read the answers.


@pytest.mark.parametrize("granularities", [frozenset({"segment"}), WORDS, BOTH])
@pytest.mark.parametrize("value", [transcript(SHORT), transcript()], ids=["speech", "silence"])
def test_sdk_types_validate_verbose_json(value: Transcript, granularities: frozenset[Granularity]) -> None:
    text = body(value, "verbose_json", granularities=granularities, nested_words=True)
    read = TranscriptionVerbose.model_validate_json(text, strict=True)
    assert (read.language, read.duration, read.text) == ("english", 1.7, value.text)
    assert (read.segments is None) == (granularities == WORDS)
    assert (read.words is None) == ("word" not in granularities)
    assert read.usage is not None
    assert read.usage.seconds == 2
    for entry, original in zip(read.segments or [], value.segments, strict=granularities != WORDS):
        assert entry.tokens == list(original.tokens)
        assert (entry.id, entry.seek, entry.text) == (original.id, original.seek, original.text)
        assert entry.avg_logprob == original.avg_logprob


def test_sdk_types_validate_the_other_json_answers() -> None:
    spoken = transcript(SHORT)
    translated = replace(spoken, task="translate")
    assert Transcription.model_validate_json(body(spoken), strict=True).text == spoken.text
    assert Translation.model_validate_json(body(translated), strict=True).text == spoken.text
    read = TranslationVerbose.model_validate_json(body(translated, "verbose_json"), strict=True)
    assert (read.language, len(read.segments or [])) == ("english", 1)


# Numbers.


@pytest.mark.parametrize(
    ("duration_s", "seconds"),
    [(0.1, 1), (1.0, 1), (1.7000000476837158, 2), (2.0, 2), (2.0000000476837158, 2), (2.001, 3), (7200.5, 7201)],
)
def test_usage_rounds_up_to_whole_seconds(duration_s: float, seconds: int) -> None:
    assert usage(duration_s) == {"type": "duration", "seconds": seconds}
    assert type(usage(duration_s)["seconds"]) is int


@given(st.integers(min_value=0, max_value=12 * 3600 * 16_000))
def test_usage_never_falls_short_of_the_reported_duration(samples: int) -> None:
    answer = verbose(transcript(duration_s=samples / 16_000))
    assert answer["duration"] <= answer["usage"]["seconds"] < answer["duration"] + 1


@given(st.floats(min_value=-1.0, max_value=400_000.0))
def test_json_times_have_at_most_three_decimals(time_s: float) -> None:
    entry = segment_dict(segment(" x", time_s, time_s))
    assert isinstance(entry["start"], float)
    assert re.fullmatch(r"\d+\.\d{1,3}", repr(entry["start"]))
    assert abs(entry["start"] - max(time_s, 0.0)) <= 0.000_500_1
    assert entry["start"] == entry["end"] == word_dict(Word("x", time_s, time_s, 1.0))["start"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_become_the_worst_ones(value: float) -> None:
    broken = replace(SHORT, avg_logprob=value, no_speech_prob=value, words=(Word(" x", 0.0, 0.1, value),))
    read = TranscriptionVerbose.model_validate_json(
        body(transcript(broken), "verbose_json", granularities=BOTH), strict=True
    )
    assert read.segments is not None
    assert read.segments[0].avg_logprob < -1.0
    assert read.segments[0].no_speech_prob == 1.0
    assert word_dict(Word(" x", 0.0, 0.1, value))["probability"] == 0.0


def test_to_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"start": math.nan})


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (0, "00:00:00,000"),
        (999, "00:00:00,999"),
        (59_999, "00:00:59,999"),
        (3_599_999, "00:59:59,999"),
        (3_600_000, "01:00:00,000"),
        (360_000_001, "100:00:00,001"),
    ],
)
def test_timestamp(milliseconds: int, expected: str) -> None:
    assert timestamp(milliseconds, ",") == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (3599.9996, 3601.0, "01:00:00,000 --> 01:00:01,000"),
        (5.0, 5.0, "00:00:05,000 --> 00:00:05,001"),
        (5.0, 4.0, "00:00:05,000 --> 00:00:05,001"),
        (-0.02, 0.5, "00:00:00,000 --> 00:00:00,500"),
        (359_999.0, 360_001.5, "99:59:59,000 --> 100:00:01,500"),
    ],
)
def test_cue_times(start: float, end: float, expected: str) -> None:
    assert body(transcript(segment(" x", start, end)), "srt") == f"1\n{expected}\nx\n\n\n"
    assert body(transcript(segment(" x", start, end)), "vtt") == f"WEBVTT\n\n{expected.replace(',', '.')}\nx\n\n"


# Text inside cues.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" one\n\n\ntwo \r\n three", "one two three"),
        ("\n \t\n", ""),
        ("a --> b ---> c", "a -> b -> c"),
        ("a -> b - c", "a -> b - c"),
        ("a\u2028\u2028b\x0cc", "a b c"),
        ("Ça va\u202f? 私\u3000は", "Ça va\u202f? 私\u3000は"),
    ],
)
def test_cue_text_is_one_line_without_arrows(text: str, expected: str) -> None:
    assert cue_text(text) == expected


def test_vtt_escapes_what_would_be_markup() -> None:
    marked = transcript(segment(" <b>R&D</b> --> &lt;", 0.0, 1.0))
    assert body(marked, "vtt").splitlines()[3] == "&lt;b>R&amp;D&lt;/b> -> &amp;lt;"
    assert body(marked, "srt").splitlines()[2] == "<b>R&D</b> -> &lt;"


def test_a_segment_without_text_is_no_cue_and_takes_no_number() -> None:
    value = transcript(segment(" a", 0.0, 1.0), segment(" \n", 1.0, 2.0), segment(" b", 2.0, 3.0))
    assert [(cue.index, cue.content.strip()) for cue in srt.parse(body(value, "srt"))] == [(1, "a"), (2, "b")]
    assert [cue.text for cue in webvtt.from_string(body(value, "vtt")).captions] == ["a", "b"]


# Lines that mean something to a parser, line breaks of all kinds, markup, and pieces that make an arrow.
PIECES = "|-->|--->|--|>|&|&amp;|<|<i>|1|WEBVTT|NOTE |STYLE|00:00:00.000 --> 00:00:01.000|é世😀| ".split("|")
BREAKS = ["\n", "\r", "\r\n", "\n\n", "\u2028", "\x85", "2\n00:00:01,000 --> 00:00:02,000\n"]
HOSTILE = st.lists(st.sampled_from(PIECES + BREAKS), max_size=8).map("".join)
TIMES = st.floats(min_value=0.0, max_value=400_000.0)
SEGMENTS = st.lists(st.builds(segment, HOSTILE | st.text(), TIMES, TIMES), max_size=5)


def readable(text: str) -> list[str]:
    """What must survive of a text, however arrows and line breaks are written."""
    return text.replace("-", "").split()


def shown(segments: list[Segment]) -> list[Segment]:
    return [entry for entry in segments if entry.text.strip()]


def check_times(entry: Segment, start: timedelta, end: timedelta) -> None:
    assert start < end
    assert abs(start.total_seconds() - entry.start) < 0.000_501
    assert abs(end.total_seconds() - max(entry.start, entry.end)) < 0.001_501


@given(SEGMENTS)
@example([segment("12:30:00"), segment("7"), segment("2\n00:00:01,000 --> 00:00:02,000\nx")])
def test_srt_parser_reads_back_the_same_cues(segments: list[Segment]) -> None:
    written = body(transcript(*segments), "srt")
    cues = list(srt.parse(written))
    assert written.count("-->") == len(cues)
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    for cue, entry in zip(cues, shown(segments), strict=True):
        assert "\n" not in cue.content.strip()
        assert readable(cue.content) == readable(entry.text)
        check_times(entry, cue.start, cue.end)


@given(SEGMENTS)
@example([segment("NOTE x"), segment("STYLE"), segment("a --\n> b --->")])
def test_vtt_parser_reads_back_the_same_cues(segments: list[Segment]) -> None:
    written = body(transcript(*segments), "vtt")
    cues = webvtt.from_string(written, strict=True).captions
    assert written.count("-->") == len(cues)
    for cue, entry in zip(cues, shown(segments), strict=True):
        assert len(cue.lines) == 1
        assert "<" not in cue.raw_text
        assert readable(html.unescape(cue.raw_text)) == readable(entry.text)
        check_times(
            entry,
            timedelta(milliseconds=cue.start_time.in_milliseconds()),
            timedelta(milliseconds=cue.end_time.in_milliseconds()),
        )


@given(SEGMENTS, st.sampled_from(["json", "text", "verbose_json"]))
def test_text_is_the_segments_joined_and_trimmed(segments: list[Segment], chosen: ResponseFormat) -> None:
    written = body(transcript(*segments), chosen)
    joined = "".join(entry.text for entry in segments).strip()
    if chosen == "text":
        assert written == joined + "\n"
    else:
        assert json.loads(written)["text"] == joined
        assert "\n" not in written


SHAPED = SubtitleOptions(max_line_width=8)


@pytest.mark.parametrize(
    ("response_format", "expected"),
    [
        ("srt", "1\n00:00:00,000 --> 00:00:01,700\nA & B\nand <c>\n\n\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.700\nA &amp; B\nand &lt;c>\n\n"),
    ],
)
def test_shaped_cues_have_lines_of_the_width_that_was_asked_for(
    response_format: ResponseFormat, expected: str
) -> None:
    words = [Word(text, n * 0.3, n * 0.3 + 0.3, 0.9) for n, text in enumerate([" A", " &", " B", " and", " <c>"])]
    said = transcript(segment(" A & B and <c>", 0.0, 1.7, *words[:-1], replace(words[-1], end=1.7)))
    assert body(said, response_format, subtitles=SHAPED) == expected
    assert len(body(said, response_format).splitlines()) == len(expected.splitlines()) - 1


# Words.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Hello,", "Hello"),
        (" “Hello,” ", "Hello"),
        (" - Hello", "Hello"),
        ("¿Qué?!", "Qué"),
        ("世界。", "世界"),
        (" o'clock", "o'clock"),
        (" twenty-three.", "twenty-three"),
        (" l’été…", "l’été"),
        (" 3.5,", "3.5"),
        (" -5", "-5"),
        (' "-5"', "-5"),
        (" .5", ".5"),
        ("...5", "5"),
        (" 50%.", "50%"),
        (" $5,", "$5"),
        (" C#.", "C#"),
        (" C++", "C++"),
        (" @sotto:", "@sotto"),
        ("%", "%"),
        (" &", "&"),
        (" ...", "..."),
        (" —", "—"),
        ("♪", "♪"),
    ],
)
def test_a_bare_word_has_no_punctuation(text: str, expected: str) -> None:
    assert bare_word(text) == expected


@given(st.text())
def test_a_bare_word_is_part_of_its_word_and_empty_only_for_spaces(text: str) -> None:
    bare = bare_word(text)
    assert bare in text
    assert bare == bare.strip()
    assert bool(bare) == bool(text.strip())
    assert {char for char in text if char.isalnum()} <= set(bare)


def test_words_of_spaces_only_are_left_out() -> None:
    words = (
        Word(" a", 0.0, 0.1, 0.5),
        Word(" ", 0.1, 0.2, 0.5),
        Word("", 0.2, 0.3, 0.5),
        Word(" -", 0.3, 0.4, 0.5),
    )
    answer = verbose(transcript(segment(" a -", 0.0, 1.0, *words)), granularities=WORDS)
    assert [word["word"] for word in answer["words"]] == ["a", "-"]
