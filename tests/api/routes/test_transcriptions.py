import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, get_args

import httpx2
import pytest
import srt
import webvtt
from openai import OpenAI
from openai.types.audio import Transcription, TranscriptionVerbose, Translation, TranslationVerbose

from server.options import RESPONSE_FORMATS, ResponseFormat
from tests.support.bad_inputs import BAD_INPUTS, DATA, SPEECH_TEXT, speech, wav
from tests.support.serving import REQUEST_S, Running
from tests.support.wer import word_error_rate
from tests.support.wire import Connection, field, file, form, part

SPEECH = "en_00.wav"
SILENCE = "silence_10s.wav"
SPEECH_S = 2.444
CONTENT_TYPES = {"json": "application/json", "verbose_json": "application/json"}
PLAIN = "text/plain; charset=utf-8"
SEGMENT_FIELDS = set(
    "id seek start end text tokens temperature avg_logprob compression_ratio no_speech_prob".split()
)
WORDS = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
TextFormat = Literal["text", "srt", "vtt"]

MODEL = field("model", "whisper-1")
TEXT = field("response_format", "text")
AUDIO = wav()


def post_form(server: Running, *parts: bytes, boundary: str = "test-boundary", **headers: str) -> str:
    """The text that a hand-written form gets for its answer."""
    with Connection(server.base_url) as connection:
        answer = connection.post(form(*parts, boundary=boundary), headers)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def verbose(server: Running, audio: str | bytes, **fields: Any) -> dict[str, Any]:
    answer = server.transcribe(audio, {"response_format": "verbose_json", **fields})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


# What comes back.


def test_json_is_compact_and_has_text_and_usage(server: Running) -> None:
    answer = server.transcribe(SPEECH)
    assert answer.content == f'{{"text":"{SPEECH_TEXT}","usage":{{"type":"duration","seconds":3}}}}'.encode()


def test_text_ends_in_one_newline(server: Running) -> None:
    assert server.transcribe(SPEECH, {"response_format": "text"}).content == f"{SPEECH_TEXT}\n".encode()


def test_srt_has_comma_blank_line_and_a_last_newline(server: Running) -> None:
    body = server.transcribe(SPEECH, {"response_format": "srt"}).text
    assert re.fullmatch(rf"1\n00:00:00,\d{{3}} --> 00:00:0[12],\d{{3}}\n{re.escape(SPEECH_TEXT)}\n\n\n", body)


def test_vtt_has_point_and_no_last_newline_more(server: Running) -> None:
    body = server.transcribe(SPEECH, {"response_format": "vtt"}).text
    cue = rf"00:00:00\.\d{{3}} --> 00:00:0[12]\.\d{{3}}\n{re.escape(SPEECH_TEXT)}\n\n"
    assert re.fullmatch(rf"WEBVTT\n\n{cue}", body)


def test_verbose_json_has_every_field_that_clients_need(server: Running) -> None:
    answer = verbose(server, SPEECH)
    (segment,) = answer.pop("segments")
    assert answer == {
        "task": "transcribe",
        "language": "english",
        "language_code": "en",
        "duration": SPEECH_S,
        "text": SPEECH_TEXT,
        "usage": {"type": "duration", "seconds": 3},
    }
    assert set(segment) == SEGMENT_FIELDS
    assert segment["text"] == f" {SPEECH_TEXT}"
    assert (segment["id"], segment["seek"], segment["temperature"]) == (0, 0, 0.0)
    assert 0 <= segment["start"] < segment["end"] <= SPEECH_S
    assert -1 < segment["avg_logprob"] < 0 < segment["no_speech_prob"] < 0.6
    assert 0 < segment["compression_ratio"] < 2.4
    assert all(isinstance(token, int) for token in segment["tokens"])


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
def test_content_type_is_that_of_the_format(server: Running, response_format: ResponseFormat) -> None:
    answer = server.transcribe(SPEECH, {"response_format": response_format})
    assert answer.headers["content-type"] == CONTENT_TYPES.get(response_format, PLAIN)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "null" not in answer.text


def test_subtitles_can_be_read_by_their_parsers(server: Running) -> None:
    audio = "long_pause.flac"
    segments = verbose(server, audio)["segments"]
    times = [(one["start"], one["end"]) for one in segments]
    texts = [one["text"].strip() for one in segments]
    assert len(segments) == 2

    from_srt = list(srt.parse(server.transcribe(audio, {"response_format": "srt"}).text))
    assert [cue.index for cue in from_srt] == list(range(1, len(segments) + 1))
    assert [cue.content.strip() for cue in from_srt] == texts
    assert [(cue.start.total_seconds(), cue.end.total_seconds()) for cue in from_srt] == times

    from_vtt = webvtt.from_string(server.transcribe(audio, {"response_format": "vtt"}).text).captions
    assert [cue.text for cue in from_vtt] == texts
    assert [(cue.start_in_seconds, cue.end_in_seconds) for cue in from_vtt] == [(int(a), int(b)) for a, b in times]


@pytest.mark.parametrize("task", ["transcribe", "translate"])
def test_subtitles_are_shaped_on_request(server: Running, task: str) -> None:
    asked = {"response_format": "srt", "max_line_width": "16"}
    answer = server.transcribe(SPEECH, asked) if task == "transcribe" else translate(server, SPEECH, **asked)
    cues = list(srt.parse(answer.text))
    lines = [line for cue in cues for line in cue.content.splitlines()]
    assert len(lines) > 1
    assert max(map(len, lines)) <= 16
    assert max(len(cue.content.splitlines()) for cue in cues) <= 2
    if task == "transcribe":
        assert " ".join(lines) == SPEECH_TEXT
    assert all(before.end <= after.start for before, after in pairwise(cues))
    assert cues[-1].end.total_seconds() <= SPEECH_S + 0.001


def test_text_is_the_segments_joined(server: Running) -> None:
    answer = verbose(server, "long_pause.flac")
    assert "".join(one["text"] for one in answer["segments"]).strip() == answer["text"]
    assert [one["id"] for one in answer["segments"]] == list(range(len(answer["segments"])))
    assert answer["segments"][1]["seek"] > 0


@pytest.mark.parametrize(
    ("granularities", "present"),
    [
        ([], {"segments"}),
        (["segment"], {"segments"}),
        (["word"], {"words"}),
        (["word", "segment"], {"words", "segments"}),
    ],
)
def test_granularities_say_which_lists_are_there(
    server: Running, granularities: list[str], present: set[str]
) -> None:
    answer = verbose(server, SPEECH, **{"timestamp_granularities[]": granularities})
    assert answer.keys() & {"words", "segments"} == present
    if "words" in present:
        assert [word["word"] for word in answer["words"]] == "The party ends at two o'clock".split()
        times = [time for word in answer["words"] for time in (word["start"], word["end"])]
        assert all(before <= after for before, after in pairwise([0, *times, SPEECH_S]))


def test_words_are_at_the_top_unless_nested_ones_are_asked_for(server: Running) -> None:
    both = {"timestamp_granularities[]": ["word", "segment"]}
    assert "words" not in verbose(server, SPEECH, **both)["segments"][0]
    nested = verbose(server, SPEECH, nested_words="true", **both)
    assert nested["segments"][0]["words"] == nested["words"]


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
@pytest.mark.parametrize("audio", [SILENCE, "noise_10s.flac", "noise_45s.ogg"])
def test_the_text_of_silence_is_empty(server: Running, audio: str, response_format: ResponseFormat) -> None:
    granularities = {"timestamp_granularities[]": ["word", "segment"]}
    answer = server.transcribe(audio, {"response_format": response_format, **granularities})
    assert answer.status_code == 200
    seconds = 45 if "45" in audio else 10
    usage = {"type": "duration", "seconds": seconds}
    if response_format == "json":
        assert answer.json() == {"text": "", "usage": usage}
    elif response_format == "verbose_json":
        found = answer.json()
        assert (found["text"], found["segments"], found["words"], found["usage"]) == ("", [], [], usage)
        assert found["duration"] == seconds
    else:
        assert answer.text == {"text": "\n", "srt": "\n", "vtt": "WEBVTT\n\n"}[response_format]


# What OpenAI's own client makes of it.


def test_sdk_reads_json(sdk: OpenAI) -> None:
    answer = sdk.audio.transcriptions.create(model="whisper-1", file=DATA / SPEECH)
    assert type(answer) is Transcription
    assert answer.text == SPEECH_TEXT
    assert answer.usage
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == 3


@pytest.mark.parametrize("response_format", get_args(TextFormat))
def test_sdk_reads_text_formats(sdk: OpenAI, server: Running, response_format: TextFormat) -> None:
    answer = sdk.audio.transcriptions.create(model="whisper-1", file=DATA / SPEECH, response_format=response_format)
    assert answer == server.transcribe(SPEECH, {"response_format": response_format}).text


def test_sdk_reads_verbose_json_with_words_and_segments(sdk: OpenAI) -> None:
    answer = sdk.audio.transcriptions.create(
        model="whisper-1",
        file=DATA / SPEECH,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        temperature=0,
        language="en",
        prompt="The party.",
        extra_body={"vad_filter": True, "hotwords": None},
    )
    assert type(answer) is TranscriptionVerbose
    assert (answer.text, answer.language, answer.duration) == (SPEECH_TEXT, "english", SPEECH_S)
    assert answer.segments
    assert set(answer.segments[0].model_fields_set) == SEGMENT_FIELDS
    assert answer.words
    assert [word.word for word in answer.words] == "The party ends at two o'clock".split()
    assert answer.usage
    assert answer.usage.seconds == 3


@pytest.mark.parametrize("spelling", ["timestamp_granularities", "timestamp_granularities[]"])
def test_sdk_may_put_the_granularities_into_the_extra_body(sdk: OpenAI, spelling: str) -> None:
    answer = sdk.audio.transcriptions.create(
        model="whisper-1", file=DATA / SILENCE, response_format="verbose_json", extra_body={spelling: ["word"]}
    )
    assert answer.words == []


def test_sdk_sends_bytes_without_a_name(sdk: OpenAI) -> None:
    assert sdk.audio.transcriptions.create(model="gpt-4o-transcribe", file=AUDIO).text == SPEECH_TEXT


def test_sdk_gives_the_request_id(sdk: OpenAI) -> None:
    raw = sdk.audio.transcriptions.with_raw_response.create(model="whisper-1", file=DATA / SILENCE)
    assert raw.request_id == raw.headers["x-request-id"]


# Translations.


def translate(server: Running, audio: str, **fields: str) -> httpx2.Response:
    return httpx2.post(
        f"{server.base_url}/v1/audio/translations",
        data={"model": "whisper-1", **fields},
        files={"file": (DATA / audio).read_bytes()},
        timeout=REQUEST_S,
        trust_env=False,
    )


def test_a_translation_has_a_text_and_no_usage(server: Running) -> None:
    assert translate(server, SPEECH).content == f'{{"text":"{SPEECH_TEXT}"}}'.encode()


@pytest.mark.parametrize("response_format", RESPONSE_FORMATS)
def test_a_translation_comes_in_every_format(server: Running, response_format: ResponseFormat) -> None:
    answer = translate(server, SPEECH, response_format=response_format)
    assert answer.headers["content-type"] == CONTENT_TYPES.get(response_format, PLAIN)
    assert SPEECH_TEXT in answer.text
    assert "usage" not in answer.text


@pytest.mark.parametrize("fields", [{}, {"language": "de"}, {"language": "german"}])
def test_a_translation_is_english_whatever_the_source(server: Running, fields: dict[str, str]) -> None:
    answer = translate(server, "de_00.wav", response_format="verbose_json", **fields).json()
    assert (answer["task"], answer["language"], answer["language_code"]) == ("translate", "english", "en")
    assert answer["segments"][0].keys() == SEGMENT_FIELDS


def test_a_translation_takes_the_fields_of_transcriptions(server: Running) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    assert translate(server, SILENCE, **fields).json()["words"] == []


# The whole class is marked so, since whisper-1 is to end.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_sdk_reads_translations(sdk: OpenAI) -> None:
    answer = sdk.audio.translations.create(model="whisper-1", file=DATA / SPEECH)
    assert type(answer) is Translation
    assert answer.text == SPEECH_TEXT
    verbose = sdk.audio.translations.create(model="whisper-1", file=DATA / SPEECH, response_format="verbose_json")
    assert type(verbose) is TranslationVerbose
    assert (verbose.language, verbose.duration, verbose.text) == ("english", SPEECH_S, SPEECH_TEXT)


# How the fields come.


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp_granularities[]": ["word", "segment"]},
        {"timestamp_granularities": ["word", "segment"]},
        {"timestamp_granularities[][]": ["word", "segment"]},
        {"extra_body[timestamp_granularities][]": ["word", "segment"]},
        {"timestamp_granularities": '["word", "segment"]'},
        {"timestamp_granularities[]": '["word","segment"]'},
        {"timestamp_granularities[0]": "word", "timestamp_granularities[1]": "segment"},
        {"timestamp_granularities[]": ["word", ""], "timestamp_granularities": "segment"},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_list_fields_are_read_in_every_spelling(server: Running, fields: dict[str, Any]) -> None:
    answer = verbose(server, SILENCE, **fields)
    assert (answer["words"], answer["segments"]) == ([], [])


def test_json_array_may_come_as_a_part_of_type_json(server: Running) -> None:
    array = part('name="timestamp_granularities"', '["word"]', "Content-Type: application/json")
    form_format = field("response_format", "verbose_json")
    answer = post_form(server, file((DATA / SILENCE).read_bytes()), MODEL, array, form_format)
    assert json.loads(answer)["words"] == []


def test_empty_fields_mean_unset(server: Running) -> None:
    names = "language prompt response_format temperature timestamp_granularities[] nested_words stream".split()
    answer = server.transcribe(SPEECH, dict.fromkeys(names, ""))
    assert answer.json()["text"] == SPEECH_TEXT


def test_unknown_fields_are_ignored(server: Running) -> None:
    fields = {"diarize": "true", "temperature_inc": "x", "user": "me", "constructor[prototype]": "x", "": "x"}
    assert server.transcribe(SILENCE, fields).json()["text"] == ""


def test_granularities_with_another_format_are_ignored(server: Running) -> None:
    answer = server.transcribe(SILENCE, {"response_format": "json", "timestamp_granularities[]": "segment"})
    assert answer.json().keys() == {"text", "usage"}


@pytest.mark.parametrize("order", ["file first", "file last", "file between"])
def test_fields_may_come_in_any_order(server: Running, order: str) -> None:
    parts = {
        "file first": (file(AUDIO), MODEL, TEXT),
        "file last": (MODEL, TEXT, file(AUDIO)),
        "file between": (MODEL, file(AUDIO), TEXT),
    }
    assert post_form(server, *parts[order]).strip() == SPEECH_TEXT


@pytest.mark.parametrize(
    ("disposition", "headers"),
    [
        ('name="file"; filename="upload"', ["Content-Type: application/octet-stream"]),
        ('name="file"; filename="blob"', ["Content-Type: audio/webm;codecs=opus"]),
        ('name="file"; filename="webm"', ["Content-Type: video/webm"]),
        ('name="file"; filename="speech.mp3"', ["Content-Type: audio/mpeg"]),
        ('name="file"; filename=""', []),
        ('name="file"; filename="a%22b.wav"', ["Content-Type: text/plain"]),
        ('name="file"; filename="../../Füße \N{PARTY POPPER}.wav"', ["Content-Type: audio/x-wav"]),
        ("name=file; filename=speech.wav", ["Content-Type: ;"]),
        ("name=file; filename=speech.wav; filename*=utf-8''F%C3%BC%C3%9Fe.wav", []),
        ("name=file; filename*=utf-8''F%C3%BC%C3%9Fe.wav", []),
        ('name="file"; FileName* = "UTF-8\'de\'speech.wav"', ["Content-Type: audio/wav"]),
        ("name=file; filename*=iso-8859-1''%22%0D%0A%5C;.wav", []),
        ("name=file; filename*=no-charset''speech.wav", []),
    ],
)
def test_name_and_type_of_the_file_decide_nothing(server: Running, disposition: str, headers: list[str]) -> None:
    answer = post_form(server, part("name=model", "whisper-1"), TEXT, file(AUDIO, disposition, *headers))
    assert answer.strip() == SPEECH_TEXT


def test_a_boundary_may_be_quoted(server: Running) -> None:
    boundary = "=_b0undary=_1'2"
    headers = {"Content-Type": f'multipart/form-data; charset=utf-8; boundary="{boundary}"'}
    assert post_form(server, file(AUDIO), MODEL, TEXT, boundary=boundary, **headers).strip() == SPEECH_TEXT


def test_a_body_may_come_in_chunks_without_a_length(server: Running) -> None:
    body = form(file(AUDIO), MODEL, TEXT)
    with Connection(server.base_url) as connection:
        connection.send_head({"Transfer-Encoding": "chunked"})
        for start in range(0, len(body), 10_007):
            connection.send_chunk(body[start : start + 10_007])
        connection.send_chunk(b"")
        assert connection.answer().body.decode().strip() == SPEECH_TEXT


def test_a_client_that_expects_100_continue_gets_it(server: Running) -> None:
    body = form(file(AUDIO), MODEL, TEXT)
    with Connection(server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body)), "Expect": "100-continue"})
        assert connection.socket.recv(64).startswith(b"HTTP/1.1 100 ")
        connection.send(body)
        assert connection.answer().body.decode().strip() == SPEECH_TEXT


def test_a_body_survives_an_offer_of_http_2(server: Running) -> None:
    offer = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk",
    }
    assert post_form(server, file(AUDIO), MODEL, TEXT, **offer).strip() == SPEECH_TEXT


def test_several_requests_use_one_connection(server: Running) -> None:
    body = form(file((DATA / SILENCE).read_bytes()), MODEL)
    with Connection(server.base_url) as connection:
        assert [connection.post(body).status for _ in range(3)] == [200, 200, 200]


# What the fields do.


@pytest.mark.parametrize(
    "model",
    "demo whisper-demo DEMO whisper-1 Whisper-1 gpt-4o-transcribe gpt-4o-mini-transcribe-2025-03-20 "
    "whisper-large-v3-turbo openai/whisper-large-v3".split(),
)
def test_hard_coded_model_names_mean_the_default_model_and_the_answer_names_it(server: Running, model: str) -> None:
    answer = server.transcribe(SILENCE, {"model": model})
    assert (answer.status_code, answer.headers["x-sotto-model"]) == (200, "demo")


@pytest.mark.parametrize("language", ["es", "ES", "Spanish", "es-MX", "es_419", " castilian "])
def test_language_may_be_a_code_a_name_or_a_tag(server: Running, language: str) -> None:
    assert verbose(server, SILENCE, language=language)["language"] == "spanish"


@pytest.mark.parametrize("language", ["", "auto", "AUTO"])
def test_language_is_detected_unless_it_is_named(server: Running, language: str) -> None:
    answer = verbose(server, "es_02.wav", language=language)
    assert (answer["language"], answer["language_code"]) == ("spanish", "es")


def test_temperature_above_zero_stands_alone(server: Running) -> None:
    assert verbose(server, SPEECH, temperature="0.2", language="en")["segments"][0]["temperature"] == 0.2


def test_a_prompt_is_accepted(server: Running) -> None:
    assert server.transcribe(SPEECH, {"prompt": "The film ends at one o'clock."}).json()["text"] == SPEECH_TEXT


@pytest.mark.parametrize("name", ["prompt", "hotwords"])
@pytest.mark.parametrize(
    "prompt",
    ["word " * 200_000, "Füße \N{PARTY POPPER} <|endoftext|>", "\0\x1b\ufffd\U0010ffff"],
    ids=["long", "odd", "raw"],
)
def test_the_prompt_is_never_too_long_or_too_odd(server: Running, name: str, prompt: str) -> None:
    # At a temperature of its own: what such a prompt does to the text is no matter, nor is how often it is retried.
    fields = {name: prompt, "language": "en", "temperature": "0.2"}
    assert server.transcribe(SPEECH, fields).status_code == 200


LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. "


@pytest.mark.parametrize("audio", [SPEECH, "human_00.wav", "de_01.wav"])
@pytest.mark.parametrize(
    "fields",
    [{"prompt": LOREM * 900}, {"prompt": "x" * 50_000}, {"prompt": "lamp " * 10_000}, {"hotwords": LOREM * 900}],
    ids=["prose", "letters", "word", "hotwords"],
)
def test_no_prompt_of_50_kilobytes_empties_the_text(server: Running, audio: str, fields: dict[str, str]) -> None:
    unprompted = server.transcribe(audio).json()["text"]
    assert unprompted
    assert server.transcribe(audio, fields).json()["text"] == unprompted


def test_the_text_of_silence_is_empty_with_a_prompt_too(server: Running) -> None:
    fields = {"prompt": LOREM, "vad_filter": "false", "language": "en"}
    assert server.transcribe("noise_10s.flac", fields).json()["text"] == ""


def test_several_languages_leave_a_choice(server: Running) -> None:
    assert verbose(server, "es_02.wav", **{"languages[]": ["de", "Spanish"]})["language"] == "spanish"
    assert verbose(server, "es_02.wav", **{"languages[]": ["de", "en"]})["language"] in {"german", "english"}


def test_json_has_the_language_if_several_were_possible(server: Running) -> None:
    answer = server.transcribe("es_02.wav", {"languages[]": ["en", "es"]}).json()
    assert answer["languages"] == [{"code": "es"}]
    assert server.transcribe(SILENCE, {"model": "gpt-transcribe"}).json()["languages"] == []


def test_gpt_model_s_usage_is_in_tokens(server: Running) -> None:
    usage = server.transcribe(SPEECH, {"model": "gpt-4o-transcribe"}).json()["usage"]
    assert usage["type"] == "tokens"
    assert usage["input_token_details"]["audio_tokens"] == 25
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt", "verbose_json"])
def test_gpt_model_serves_the_formats_that_the_cloud_s_has_not(server: Running, response_format: str) -> None:
    answers = [
        server.transcribe(SPEECH, {"model": model, "response_format": response_format}).content
        for model in ("gpt-4o-transcribe", "whisper-1")
    ]
    assert answers[0] == answers[1]


def test_whole_file_counts_as_speech_without_the_filter(server: Running) -> None:
    """The model hears the silence then, and says itself that nobody speaks, or not."""
    fields = {"vad_filter": "false", "language": "en", "response_format": "verbose_json"}
    assert server.transcribe("lead_silence.flac", fields).json()["segments"][0]["seek"] == 0
    assert verbose(server, "lead_silence.flac", language="en")["segments"][0]["seek"] > 0


@pytest.mark.parametrize(
    "strategy",
    [
        {"chunking_strategy": "auto"},
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "0.6"},
        {"chunking_strategy": '{"type": "server_vad", "prefix_padding_ms": 200, "silence_duration_ms": 400}'},
        {"extra_body[chunking_strategy][type]": "server_vad"},
    ],
    ids=lambda strategy: "+".join(strategy),
)
def test_speech_is_found_by_every_strategy(server: Running, strategy: dict[str, str]) -> None:
    assert server.transcribe(SPEECH, strategy).json()["text"] == SPEECH_TEXT


def test_threshold_decides_what_is_speech(server: Running) -> None:
    deaf = {"chunking_strategy[type]": "server_vad", "chunking_strategy[threshold]": "1"}
    assert server.transcribe(SPEECH, deaf).json()["text"] == ""


def test_reference_clips_of_known_speakers_pass(server: Running) -> None:
    clip = "data:audio/wav;base64," + "A" * (5 << 20 >> 1)
    fields = {"known_speaker_names[]": list("ABCD"), "known_speaker_references[]": [f"{clip}{n}" for n in range(4)]}
    assert server.transcribe(SPEECH, fields).json()["text"] == SPEECH_TEXT


@pytest.mark.parametrize(
    "fields", [{"keywords[]": ["party", "o'clock"]}, {"hotwords": "party"}, {"beam_size": "1"}]
)
def test_help_for_the_model_is_taken(server: Running, fields: dict[str, Any]) -> None:
    assert server.transcribe(SPEECH, {"language": "en", **fields}).status_code == 200


def test_nested_dialect_is_a_request_s_choice(server: Running) -> None:
    answer = verbose(server, SPEECH, response_dialect="nested", **{"timestamp_granularities[]": "word"})
    assert (answer["language"], "words" in answer) == ("en", False)
    assert [word["word"] for word in answer["segments"][0]["words"]] == SPEECH_TEXT.split()


# What is uploaded.


@pytest.mark.parametrize(
    "audio",
    ["en_11.wav", "en_13.wav", "en_14.mp3", "en_15.m4a", "en_16.ogg", "en_17.webm", "en_18.flac", "en_19.mp4"],
)
def test_every_container_is_decoded(server: Running, manifest: list[dict[str, Any]], audio: str) -> None:
    (known,) = (entry for entry in manifest if entry["file"] == audio)
    answer = verbose(server, audio)
    assert word_error_rate(known["text"], answer["text"]) <= 0.2  # one word, in telephone quality
    assert answer["duration"] == pytest.approx(known["duration"], abs=0.1)


@pytest.fixture
def well_after(server: Running) -> Iterator[None]:
    """Whatever the test sent, the next request is answered as ever."""
    yield
    assert server.transcribe(wav(speech()[:16_000].tobytes()), {"language": "en"}).status_code == 200


@pytest.mark.usefixtures("well_after")
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_odd_and_broken_files_are_understood_or_refused(server: Running, name: str) -> None:
    bad = BAD_INPUTS[name]
    answer = server.transcribe(bad.build(), {"language": "en"}, name=name)
    if bad.outcome == "ok":
        assert (answer.status_code, answer.json()["text"]) == (200, SPEECH_TEXT)
        return
    assert answer.status_code == 400
    error = answer.json()["error"]
    code, message = {
        "undecodable": ("invalid_value", "The audio file could not be decoded or its format is not supported."),
        "too_short": ("audio_too_short", "Audio file is too short. Minimum audio length is 0.1 seconds."),
    }[bad.outcome]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "file", code)
    assert error["message"].startswith(message)
    assert str(DATA) not in answer.text


def test_a_recording_can_be_decoded_in_sequence(server: Running) -> None:
    """Over 40 s: the second window is prompted with the first one's text."""
    with (DATA / "german_45s.mp3").open("rb") as file:
        answer = httpx2.post(
            f"{server.base_url}/v1/audio/transcriptions",
            files={"file": file},
            data={"model": "whisper-1", "response_format": "verbose_json", "condition_on_previous_text": "true"},
            timeout=120,
        ).json()
    assert answer["language"] == "german"
    starts = [segment["start"] for segment in answer["segments"]]
    assert starts == sorted(starts)
    assert starts[-1] > 35
    # Two windows of up to 30 s, not five of 10.
    assert len({segment["seek"] for segment in answer["segments"]}) == 2
