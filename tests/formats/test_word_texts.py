"""Words without punctuation get it back from the text: nothing is lost, and cues are as of the model's words."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.formats.render import bare_word
from server.formats.subtitles import Cue, make_cues
from server.formats.word_texts import distributed, with_texts
from server.options import SubtitleOptions
from server.transcript import Segment, Transcript, Word
from tests.support.fakes import make_segment

SAID = [
    " Hello, world. Is it?",
    " “Well,” she said, “that is all. Is it?” And so (as we know) it went on: -5 or 50% of ¿qué?",
    "今天天气很好，我们去公园吧。「好的！」",
    " It's a well-known o'clock... he said",
]


def whole(text: str, start_s: float = 0.0) -> Segment:
    """`text` as the model gives it: a word a second, and a character is one where there are no spaces."""
    parts = re.findall(r" ?[“(¿「]*(?:[一-鿿]|(?:(?![一-鿿])[\w'%-])+)[,.:?!”)，。！」]*", text)
    assert "".join(parts) == text
    said = tuple(Word(part, start_s + at, start_s + at + 0.9, 0.9) for at, part in enumerate(parts))
    return replace(make_segment(start_s, start_s + len(said), text), words=said)


def bare(segment: Segment) -> Segment:
    words = tuple(replace(word, word=bare_word(word.word)) for word in segment.words or ())
    return replace(segment, words=words)


def cues(*segments: Segment) -> list[Cue]:
    transcript = Transcript("transcribe", "en", None, 100.0, segments)
    return list(make_cues(transcript, SubtitleOptions(max_line_width=12)))


@pytest.mark.parametrize("text", SAID)
def test_words_get_back_what_stands_around_them(text: str) -> None:
    segment = whole(text)
    found = with_texts(bare(segment))
    assert "".join(word.word for word in found.words or ()) == text
    assert [(word.start, word.end) for word in found.words or ()] == [
        (word.start, word.end) for word in segment.words or ()
    ]
    assert cues(found) == cues(segment)


def test_opening_marks_belong_to_the_word_behind_them_and_the_others_to_that_before() -> None:
    words = tuple(Word(text, 0.0, 1.0, 1.0) for text in ("a", "b", "c"))
    found = with_texts(replace(make_segment(text=" (a),b) «c»!"), words=words))
    assert [word.word for word in found.words or ()] == [" (a),", "b)", " «c»!"]


@pytest.mark.parametrize(
    "words", [(), ("Hello",), ("Hello", "there"), ("Hello", "world", "again"), ("world", "Hello")]
)
def test_words_of_another_text_are_left_out(words: tuple[str, ...]) -> None:
    posted = tuple(Word(word, 0.0, 1.0, 1.0) for word in words)
    segment = with_texts(replace(make_segment(text=" Hello, world."), words=posted))
    assert segment.words is None
    assert [line for cue in cues(segment) for line in cue.lines] == ["Hello,", "world."]


def test_words_of_all_go_to_the_segments_whose_text_has_them() -> None:
    segments = [whole(" One, two."), whole(" Two three", 2.0), whole(" four", 4.0)]
    words = [word for segment in segments for word in bare(segment).words or ()]
    plain = [replace(segment, words=None) for segment in segments]
    assert [with_texts(each) for each in distributed(plain, words)] == segments


def test_words_that_no_text_has_go_to_the_segment_of_their_time() -> None:
    segments = [make_segment(0.0, 2.0, " Edited"), make_segment(2.0, 4.0, " three four")]
    words = [
        Word(text, float(at), at + 1.0, 1.0) for at, text in enumerate(("one", "two", "three", "four", "five"))
    ]
    found = [[word.word for word in each.words or ()] for each in distributed(segments, words)]
    assert found == [["one", "two"], ["three", "four", "five"]]


@given(st.lists(st.text(" ab,.(「«今天-5%", min_size=0, max_size=6), max_size=8), st.text(" ab,.(今", max_size=12))
def test_no_text_is_lost_for_any_words(words: list[str], text: str) -> None:
    posted = tuple(Word(word, 0.0, 1.0, 1.0) for word in words)
    segment = with_texts(replace(make_segment(text=text), words=posted))
    if segment.words is not None:
        assert "".join(word.word for word in segment.words) == text.rstrip()
