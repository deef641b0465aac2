"""What a stream tells: deltas that make up the text, the last event, and what was asked for beyond OpenAI's."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from server.formats.render import Json, segment_dict, to_json, word_dicts
from server.formats.stream_events import DeltaWriter, done, progress
from server.options import DecodingOptions, StreamEvent, TranscriptionOptions
from server.transcript import Segment, TokenLogprob, Transcript, Word
from tests.support.fakes import make_segment

WORD = Word(" Hello,", 0.1, 0.5, 0.9)
LOGPROBS = (TokenLogprob(" Hel", -0.25, b" Hel"), TokenLogprob("\ufffd", -0.5, b"\xc3"))
SPOKEN = replace(make_segment(text=" Hello"), words=(WORD,), logprobs=LOGPROBS, text_tokens=2)
SEGMENTS: frozenset[StreamEvent] = frozenset({"segments"})


def events_of(*segments: Segment, **options: Any) -> list[Json]:
    narrator = DeltaWriter(TranscriptionOptions(stream=True, **options))
    return [event for segment in segments for event in narrator.segment(segment)]


def transcript(*segments: Segment) -> Transcript:
    return Transcript("transcribe", "en", 0.9, 1.7, segments)


def decoding(**options: Any) -> DecodingOptions:
    return DecodingOptions(**options)


def test_first_delta_has_no_leading_space_and_later_ones_carry_theirs() -> None:
    texts = [event["delta"] for event in events_of(make_segment(text=" Hello"), make_segment(text=" world."))]
    assert texts == ["Hello", " world."]


@given(st.lists(st.text(alphabet=" \n\t\u3000\u00a0ab.é", max_size=5)))
@example(["", " ", " a ", " ", " b \n", "\t"])
@example(["  "])
def test_joined_deltas_are_the_text_of_done(texts: list[str]) -> None:
    segments = [make_segment(text=text) for text in texts]
    deltas = [str(event["delta"]) for event in events_of(*segments)]
    assert "".join(deltas) == done(transcript(*segments), TranscriptionOptions())["text"]
    assert all(deltas)


def test_deltas_and_done_carry_log_probabilities_where_they_were_asked_for() -> None:
    options = TranscriptionOptions(model="gpt-4o-transcribe", decoding=decoding(token_logprobs=True))
    (delta,) = events_of(SPOKEN, decoding=options.decoding)
    last = done(transcript(SPOKEN, SPOKEN), options)
    tokens = [
        {"token": " Hel", "logprob": -0.25, "bytes": [32, 72, 101, 108]},
        {"token": "\ufffd", "logprob": -0.5, "bytes": [195]},
    ]
    assert delta == {"type": "transcript.text.delta", "delta": "Hello", "logprobs": tokens}
    assert last["logprobs"] == tokens * 2
    assert "logprobs" not in events_of(SPOKEN)[0]
    assert "logprobs" not in done(transcript(SPOKEN), TranscriptionOptions())


@pytest.mark.parametrize("model", ["whisper-1", "demo", ""])
def test_done_of_a_whisper_model_has_no_usage(model: str) -> None:
    assert done(transcript(SPOKEN), TranscriptionOptions(model=model)) == {
        "type": "transcript.text.done",
        "text": "Hello",
    }


def test_done_of_a_gpt_model_has_usage_in_tokens_whatever_the_format() -> None:
    options = TranscriptionOptions(model="gpt-4o-transcribe", response_format="verbose_json")
    assert done(transcript(SPOKEN), options)["usage"] == {
        "type": "tokens",
        "input_tokens": 17,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 17},
        "output_tokens": 2,
        "total_tokens": 19,
    }


def test_the_done_event_has_languages_whenever_json_does() -> None:
    assert done(transcript(SPOKEN), TranscriptionOptions(model="gpt-transcribe"))["languages"] == [{"code": "en"}]


def test_segment_events_are_sent_only_if_requested() -> None:
    assert [event["type"] for event in events_of(SPOKEN)] == ["transcript.text.delta"]
    _, event = events_of(SPOKEN, stream_events=SEGMENTS)
    assert event == {"type": "sotto.segment"} | segment_dict(SPOKEN)


def test_segments_have_words_where_words_were_asked_for() -> None:
    _, event = events_of(SPOKEN, stream_events=SEGMENTS, decoding=decoding(word_timestamps=True))
    assert event == {"type": "sotto.segment"} | segment_dict(SPOKEN) | {"words": word_dicts((WORD,))}


def test_progress_has_whole_milliseconds_and_an_optional_hint() -> None:
    known = {"type": "sotto.progress", "done_s": 1.235, "total_hint_s": 600.1, "queue_position": 2}
    assert progress(1.23456, 600.1, 2) == known
    assert progress(1.23456, 600.1, 2, "de") == known | {"language": "de"}
    assert progress(0.0, None, 0) == {"type": "sotto.progress", "done_s": 0.0, "queue_position": 0}


def test_sdk_types_validate_the_events() -> None:
    options = TranscriptionOptions(model="gpt-transcribe", decoding=decoding(token_logprobs=True))
    (delta,) = events_of(SPOKEN, decoding=options.decoding)
    TranscriptionTextDeltaEvent.model_validate_json(to_json(delta), strict=True)
    last = TranscriptionTextDoneEvent.model_validate_json(to_json(done(transcript(SPOKEN), options)), strict=True)
    assert last.usage
    assert json.loads(last.usage.model_dump_json())["total_tokens"] == 19
