"""Cues shaped on request: every word once and in order, lines and times within limits."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.formats.subtitles import Cue, columns, make_cues
from server.options import MAX_CUE_S, MAX_LINE_COUNT, MAX_LINE_WIDTH, MIN_MAX_CUE_S, SubtitleOptions
from server.transcript import Segment, Transcript, Word
from tests.support.fakes import make_segment

Split = list[tuple[str, float, float]]  # words with their times


def segment(*words: tuple[str, float, float]) -> Segment:
    said = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    return replace(make_segment(said[0].start, said[-1].end, "".join(word.word for word in said)), words=said)


def transcript(*segments: Segment, duration_s: float = 0.0) -> Transcript:
    end_s = segments[-1].end if segments else 0.0
    return Transcript("transcribe", "en", None, max(duration_s, end_s), segments)


def spoken(text: str, word_s: float = 0.3, pauses: dict[str, float] | None = None) -> Segment:
    """`text` at an even pace; after the words of `pauses` there is one."""
    words: Split = []
    clock_s = 0.0
    for word in re.findall(r"\s*\S+", text):
        words.append((word, clock_s, clock_s + word_s))
        clock_s += word_s + (pauses or {}).get(word.strip(), 0.0)
    return segment(*words)


def characters(text: str, each_s: float = 0.2) -> Segment:
    """`text` of a language without spaces, as the model gives it: a word for each character."""
    return segment(*((char, index * each_s, (index + 1) * each_s) for index, char in enumerate(text)))


def cues_of(*segments: Segment, duration_s: float = 0.0, **options: Any) -> list[Cue]:
    return list(make_cues(transcript(*segments, duration_s=duration_s), SubtitleOptions(**options)))


def lines_of(*segments: Segment, **options: Any) -> list[list[str]]:
    return [list(cue.lines) for cue in cues_of(*segments, **options)]


# Whatever is said


WORDS = st.lists(
    st.tuples(
        st.text("abcdeé.,!?-–’»(¿>&", min_size=1, max_size=12).map(lambda text: f" {text}\n")
        | st.text("今天気っー。、「」กาเ่", min_size=1, max_size=3),
        st.integers(0, 3000),  # silence before it, ms
        st.integers(0, 2500),  # how long it is, ms
    ),
    max_size=60,
)
SHAPES = st.builds(
    lambda width, count, short, long: SubtitleOptions(width, count, min(short, long), long),
    st.integers(1, MAX_LINE_WIDTH) | st.integers(1, 50),
    st.integers(1, MAX_LINE_COUNT),
    st.floats(0, MAX_CUE_S),
    st.floats(MIN_MAX_CUE_S, MAX_CUE_S),
)


def timed(words: list[tuple[str, int, int]]) -> Split:
    placed: Split = []
    clock_ms = 0
    for text, silence_ms, length_ms in words:
        start_ms = clock_ms + silence_ms
        clock_ms = start_ms + length_ms
        placed.append((text, start_ms / 1000, clock_ms / 1000))
    return placed


def solid(text: str) -> str:
    """What must not be lost: all but spaces, and dashes, of which an arrow may lose some."""
    return re.sub(r"[\s-]", "", text)


@given(WORDS, SHAPES, st.integers(1, 10))
def test_every_word_is_shown_once_and_in_order_in_lines_within_limits(
    words: list[tuple[str, int, int]], options: SubtitleOptions, per_segment: int
) -> None:
    placed = timed(words)
    groups = [placed[begin : begin + per_segment] for begin in range(0, len(placed), per_segment)]
    cues = list(make_cues(transcript(*(segment(*group) for group in groups)), options))
    shown = "".join(line for cue in cues for line in cue.lines)
    assert solid(shown) == solid("".join(text for text, _, _ in placed))
    for cue in cues:
        assert 1 <= len(cue.lines) <= options.max_line_count
        for line in cue.lines:
            assert line.strip() == line != ""
            assert "-->" not in line
            assert "\n" not in line
            one = not re.search(r"\S \S", line)  # or two that punctuation holds together
            assert columns(line) <= options.max_line_width or one


@given(WORDS, SHAPES, st.floats(0, 5))
def test_cues_last_from_their_first_word_to_their_last_or_for_the_minimum_and_never_overlap(
    words: list[tuple[str, int, int]], options: SubtitleOptions, rest_s: float
) -> None:
    if not words:
        return
    placed = [(f" {index}", start, end) for index, (_, start, end) in enumerate(timed(words))]
    said = transcript(segment(*placed), duration_s=placed[-1][2] + rest_s)
    cues = list(make_cues(said, options))
    slack_ms = len(cues)  # those of words without any length are shown for 1 ms, and push on the next
    limits = [*(cue.start_ms for cue in cues[1:]), round(said.duration_s * 1000) + slack_ms]
    for cue, limit_ms in zip(cues, limits, strict=True):
        inside = [placed[int(number)] for number in " ".join(cue.lines).split()]
        first_ms, last_ms = round(inside[0][1] * 1000), round(inside[-1][2] * 1000)
        assert first_ms <= cue.start_ms <= first_ms + slack_ms
        assert cue.start_ms < cue.end_ms <= limit_ms
        assert cue.end_ms >= last_ms
        if cue.end_ms > last_ms + slack_ms:
            assert cue.end_ms <= cue.start_ms + options.min_cue_ms
        elif len(inside) > 1:
            assert last_ms - first_ms <= options.max_cue_ms


# Sense


def test_one_short_sentence_is_one_line() -> None:
    assert lines_of(spoken(" The party ends at two o'clock.")) == [["The party ends at two o'clock."]]


def test_lines_of_a_cue_are_balanced_and_break_after_punctuation_where_it_is_near() -> None:
    assert lines_of(spoken(" I asked him whether he would rather have another one of these")) == [
        ["I asked him whether he would", "rather have another one of these"]
    ]
    assert lines_of(spoken(" I saw him again yesterday, and he said that it was all right.")) == [
        ["I saw him again yesterday,", "and he said that it was all right."]
    ]


def test_cues_end_with_sentences_and_then_with_clauses() -> None:
    first = " He told us that the train would leave at six in the evening."
    second = " We did not believe him, since it never had left before seven on any day that I remember."
    assert [" ".join(lines) for lines in lines_of(spoken(first + second))] == [
        first.strip(),
        "We did not believe him,",
        "since it never had left before seven on any day that I remember.",
    ]


def test_a_cue_ends_with_a_clause_though_the_next_one_is_much_longer() -> None:
    said = spoken(
        " In the end, nobody in all of the village had ever seen that old man without his black dog.", 0.4
    )
    assert lines_of(said)[0] == ["In the end,"]


def test_short_sentences_share_a_cue() -> None:
    assert lines_of(spoken(" Yes. No. All right.")) == [["Yes. No. All right."]]


def test_cues_break_at_pauses() -> None:
    said = spoken(" and then he went to the house of his mother", pauses={"went": 0.8, "house": 1.5})
    assert [" ".join(lines) for lines in lines_of(said, max_cue_s=2.0)] == [
        "and then he went",
        "to the house",
        "of his mother",
    ]


def test_segments_are_no_cues() -> None:
    half, rest = spoken(" I was walking down the"), spoken(" street.")
    later = segment(*((word.word, word.start + 1.5, word.end + 1.5) for word in rest.words or ()))
    assert lines_of(half, later) == [["I was walking down the street."]]


@pytest.mark.parametrize(("count", "expected"), [(1, 3), (2, 2), (3, 1)])
def test_cues_have_as_many_lines_as_asked(count: int, expected: int) -> None:
    said = spoken(" aaaa bbbb cccc dddd eeee ffff")
    cues = lines_of(said, max_line_width=9, max_line_count=count)
    assert len(cues) == expected
    assert [line for cue in cues for line in cue] == ["aaaa bbbb", "cccc dddd", "eeee ffff"]


def test_a_word_wider_than_a_line_is_whole() -> None:
    said = spoken(" the Donaudampfschifffahrtsgesellschaft ended")
    assert lines_of(said, max_line_width=10, max_line_count=3) == [
        ["the", "Donaudampfschifffahrtsgesellschaft", "ended"]
    ]


# Languages without spaces


def test_chinese_lines_break_between_characters_and_never_before_punctuation() -> None:
    text = "今天天气很好，我们一起去公园散步吧。路上遇到了一个老朋友。"
    cues = lines_of(characters(text), max_line_width=16)
    lines = [line for cue in cues for line in cue]
    assert "".join(lines) == text
    assert max(map(columns, lines)) <= 16
    assert not [line for line in lines if line[0] in "，。"]
    assert cues[0][0] == "今天天气很好，"


def test_japanese_small_kana_and_brackets_stay_where_they_belong() -> None:
    text = "「きょう」はちょっとーだけ"
    for width in range(2, 14):
        lines = [line for cue in lines_of(characters(text), max_line_width=width) for line in cue]
        assert "".join(lines) == text
        assert not [line for line in lines if line[0] in "ょっー」" or line[-1] == "「"]


def test_thai_marks_and_vowels_stay_with_their_consonants() -> None:
    text = "เขาไม่ได้ไปที่นั่น"
    for width in range(1, 8):
        lines = [line for cue in lines_of(characters(text), max_line_width=width) for line in cue]
        assert "".join(lines) == text
        assert not [line for line in lines if line[0] in "่้ี่ัา" or line[-1] in "เไ"]


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("今天", 4), ("é", 1), ("e\u0301", 1), ("ｱｲ", 2)])
def test_columns_are_those_of_a_screen(text: str, width: int) -> None:
    assert columns(text) == width


# Times


def test_a_short_cue_lasts_its_minimum_if_nothing_follows_sooner() -> None:
    (cue,) = cues_of(spoken(" Yes."), duration_s=9.0, min_cue_s=2.0)
    assert (cue.start_ms, cue.end_ms) == (0, 2000)
    first, second = cues_of(
        segment((" Yes.", 0.0, 0.2)), segment((" No.", 1.5, 1.7)), duration_s=3.0, min_cue_s=2.0
    )
    assert (first.end_ms, second.start_ms, second.end_ms) == (1500, 1500, 3000)  # the recording ends there


def test_a_cue_ends_with_its_last_word_where_it_is_long_enough() -> None:
    (cue,) = cues_of(spoken(" one two three four five"), duration_s=9.0)
    assert (cue.start_ms, cue.end_ms) == (0, 1500)


def test_long_speech_without_a_break_is_cut_by_the_limit() -> None:
    cues = cues_of(spoken(" a" * 60, word_s=0.5), max_cue_s=5.0, max_line_width=200)
    assert max(cue.end_ms - cue.start_ms for cue in cues) <= 5000
    assert len(cues) < 9


def test_a_segment_without_words_is_shown_over_its_time() -> None:
    bare = replace(make_segment(2.0, 4.0, " ... !"), words=())
    (cue,) = cues_of(bare)
    assert (cue.start_ms, cue.end_ms, cue.lines) == (2000, 4000, ("... !",))
    assert cues_of(replace(make_segment(0.0, 1.0, " "), words=None)) == []


def test_silence_has_no_cues() -> None:
    assert list(make_cues(Transcript("transcribe", "en", None, 5.0, ()), SubtitleOptions())) == []


# Whatever somebody posts: in a time that grows with its length


def test_invisible_characters_never_form_a_cue_of_their_own() -> None:
    invisible = "\u200b"
    many = segment(("今", 0.0, 1.0), *[(invisible, 1.0, 1.0)] * 5_000, ("天", 1.0, 2.0))
    assert lines_of(many, max_line_width=2, max_line_count=1) == [[f"今{invisible * 5_000}"], ["天"]]


@pytest.mark.parametrize("text", ["-" * 300_000, " " * 300_000, f"a{' ' * 300_000}b"])
def test_long_rules_and_gaps_are_read_once(text: str) -> None:
    lines = [line for cue in cues_of(make_segment(text=text)) for line in cue.lines]
    assert " ".join(lines) == " ".join(text.split())
