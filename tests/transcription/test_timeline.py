from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.transcript import SAMPLE_RATE, Segment, Span, TokenLogprob, Window, WindowResult, Word
from server.transcription.timeline import FileTime, Timeline
from tests.support.fakes import make_segment
from tests.support.strategies import THREE, windows


def seconds(index: int, *spans: tuple[float, float]) -> Window:
    return Window(index, tuple(Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in spans))


def result(window: Window, *segments: Segment) -> WindowResult:
    return WindowResult(segments, "en", window.length)


def times(segments: list[Segment]) -> list[tuple[float, float]]:
    return [(segment.start, segment.end) for segment in segments]


# Two seconds of speech at 10 s and three at 20 s: the model hears five seconds.
TWO_SPANS = seconds(0, (10, 12), (20, 23))


@pytest.mark.parametrize(
    ("start", "end", "in_file"),
    [
        (0.0, 1.0, (10.0, 11.0)),
        (0.5, 2.0, (10.5, 12.0)),  # an end on the joint is that of the speech before it
        (2.0, 3.0, (20.0, 21.0)),  # a start on the joint is that of the speech behind it
        (1.0, 3.0, (11.0, 21.0)),
        (4.0, 5.0, (22.0, 23.0)),
        (4.0, 9.0, (22.0, 23.0)),  # nothing is said behind the window
        (-1.0, 1.0, (10.0, 11.0)),
        (3.0, 2.5, (21.0, 21.0)),  # an end before its start
    ],
)
def test_a_segment_is_placed_at_its_time_in_the_file(
    start: float, end: float, in_file: tuple[float, float]
) -> None:
    placed = Timeline().place(TWO_SPANS, result(TWO_SPANS, make_segment(start, end)))
    assert times(placed) == [pytest.approx(in_file)]


def test_words_lie_in_the_span_of_their_middle_and_the_segment_around_them() -> None:
    words = (Word(" a", 0.5, 1.0, 0.9), Word(" b", 1.5, 2.2, 0.8), Word(" c", 1.9, 2.5, 0.7))
    segment = replace(make_segment(0.0, 4.0), words=words)
    (placed,) = Timeline().place(TWO_SPANS, result(TWO_SPANS, segment))
    assert placed.words is not None
    assert [(word.start, word.end) for word in placed.words] == [(10.5, 11.0), (11.5, 12.0), (20.0, 20.5)]
    assert (placed.start, placed.end) == (10.5, 20.5)
    assert [(word.word, word.probability) for word in placed.words] == [(" a", 0.9), (" b", 0.8), (" c", 0.7)]


def test_tokens_and_logprobs_stay_with_their_segment() -> None:
    logprobs = (TokenLogprob(" words", -0.5, b" words"),)
    segment = replace(make_segment(0.0, 9.0), text_tokens=1, logprobs=logprobs)
    cut = replace(segment, words=(Word(" words", 0.5, 9.0, 0.9),))
    placed = Timeline().place(TWO_SPANS, result(TWO_SPANS, segment, cut))
    assert [(each.text_tokens, each.logprobs) for each in placed] == [(1, logprobs), (1, logprobs)]


def test_words_that_overlap_are_put_one_behind_the_other() -> None:
    words = (Word(" a", 0.5, 1.5, 0.9), Word(" b", 1.0, 1.2, 0.8), Word(" c", 0.2, 1.8, 0.7))
    (placed,) = Timeline().place(TWO_SPANS, result(TWO_SPANS, replace(make_segment(), words=words)))
    assert [(word.start, word.end) for word in placed.words or ()] == [(10.5, 11.5), (11.5, 11.5), (11.5, 11.8)]


@pytest.mark.parametrize("words", [None, ()])
def test_a_segment_without_words_keeps_them_so(words: tuple[Word, ...] | None) -> None:
    (placed,) = Timeline().place(TWO_SPANS, result(TWO_SPANS, replace(make_segment(0, 1), words=words)))
    assert placed.words == words
    assert (placed.start, placed.end) == (10.0, 11.0)


def test_ids_count_through_and_seek_is_where_the_window_begins() -> None:
    placer = Timeline()
    first, second = seconds(0, (0, 30)), seconds(1, (31.5, 60))
    placed = placer.place(first, result(first, make_segment(0, 1), make_segment(1, 2)))
    placed += placer.place(second, result(second, replace(make_segment(2, 3), seek=70)))
    assert [segment.id for segment in placed] == [0, 1, 2]
    assert [segment.seek for segment in placed] == [0, 0, 3_220]


def test_no_segment_begins_before_the_end_of_the_one_before() -> None:
    placer = Timeline()
    window = seconds(0, (0, 30))
    placed = placer.place(window, result(window, make_segment(0, 10), make_segment(5, 8), make_segment(9, 12)))
    assert times(placed) == [(0, 10), (10, 10), (10, 12)]
    assert placer.end_s == 12


def test_everything_else_of_a_segment_stays() -> None:
    segment = make_segment(0, 1)
    (placed,) = Timeline().place(TWO_SPANS, result(TWO_SPANS, segment))
    assert replace(placed, id=0, seek=0, start=segment.start, end=segment.end) == segment


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[Window, WindowResult]]:
    """Windows of a file in order, each with whatever a model may claim was said in it."""
    any_time = st.floats(-5, 40, allow_nan=False)
    words = st.builds(Word, st.just(" word"), any_time, any_time, st.just(0.5))
    segments = st.builds(
        lambda start, end, words: replace(make_segment(start, end), words=words),
        any_time,
        any_time,
        st.none() | st.lists(words, max_size=5).map(tuple),
    )
    position, results = 0, []
    for index in range(draw(st.integers(1, 4))):
        spans = []
        for _ in range(draw(st.integers(1, 4))):
            start = position + draw(st.integers(0, 200_000))
            position = start + draw(st.integers(1, 120_000))
            spans.append(Span(start, position))
        window = Window(index, tuple(spans))
        results.append((window, result(window, *draw(st.lists(segments, max_size=5)))))
    return results


@given(requests())
def test_times_are_in_order_and_inside_for_any_result(results: list[tuple[Window, WindowResult]]) -> None:
    placer = Timeline()
    end_s, count = 0.0, 0
    for window, said in results:
        for segment, original in zip(placer.place(window, said), said.segments, strict=True):
            assert segment.id == count
            assert window.offset / SAMPLE_RATE <= segment.start <= segment.end <= window.end / SAMPLE_RATE
            assert segment.start >= end_s
            assert (segment.words is None) == (original.words is None)
            reached = segment.start
            for word in segment.words or ():
                assert reached <= word.start <= word.end <= segment.end
                reached = word.end
            end_s, count = segment.end, count + 1


# FileTime

any_time = st.floats(-1.0, 60.0)


@pytest.mark.parametrize(
    ("time_s", "start_s", "end_s"),
    [
        (-0.5, 10.0, 10.0),
        (0.0, 10.0, 10.0),
        (0.25, 10.25, 10.25),
        (1.0, 20.0, 11.0),  # a joint: where the next speech starts, or where this one ends
        (1.02, 20.02, 20.02),
        (3.0, 30.0, 22.0),
        (6.0, 33.0, 33.0),
        (7.5, 33.0, 33.0),
    ],
)
def test_window_time_becomes_file_time(time_s: float, start_s: float, end_s: float) -> None:
    times = FileTime(THREE)
    assert times.of(time_s) == pytest.approx(start_s)
    assert times.of(time_s, end=True) == pytest.approx(end_s)


def test_a_joint_that_no_float_hits_exactly_is_a_joint() -> None:
    window = Window(0, (Span(0, 4800), Span(100_000, 110_000)))  # 0.3 s; 0.1 + 0.2 is a little more
    assert FileTime(window).span_at(0.1 + 0.2, end=True) == 0
    assert FileTime(window).of(0.1 + 0.2, end=True) == pytest.approx(0.3)
    assert FileTime(window).span_at(0.3 - 1e-9) == 1


def test_a_time_can_be_held_inside_a_span() -> None:
    times = FileTime(THREE)
    assert times.of(0.5, span=1) == pytest.approx(20.0)
    assert times.of(2.0, span=1) == pytest.approx(21.0)
    assert times.of(5.0, span=1) == pytest.approx(22.0)


@given(windows(), any_time, any_time, st.booleans())
def test_file_times_are_monotone(window: Window, one: float, other: float, end: bool) -> None:
    file_time = FileTime(window)
    assert file_time.of(min(one, other), end=end) <= file_time.of(max(one, other), end=end)


@given(windows(), any_time, st.booleans())
def test_file_times_are_inside_the_spans(window: Window, time_s: float, end: bool) -> None:
    sample = FileTime(window).of(time_s, end=end) * SAMPLE_RATE
    assert any(span.start - 1e-3 <= sample <= span.end + 1e-3 for span in window.spans)


@given(windows(), st.data())
def test_file_time_counts_the_silence_that_was_cut_out(window: Window, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(window.spans) - 1))
    inside = data.draw(st.integers(0, len(window.spans[index]) - 1))
    position = sum(len(span) for span in window.spans[:index]) + inside
    expected = (window.spans[index].start + inside) / SAMPLE_RATE
    assert FileTime(window).of(position / SAMPLE_RATE) == pytest.approx(expected)
