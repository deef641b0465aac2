import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.transcript import SAMPLE_RATE, Segment, Span, Transcript, Window, Word
from server.transcription.timeline import FileTime

SECOND = SAMPLE_RATE

# 1 s, 2 s and 3 s of speech at 10 s, 20 s and 30 s of the file
THREE = Window(4, (Span(10 * SECOND, 11 * SECOND), Span(20 * SECOND, 22 * SECOND), Span(30 * SECOND, 33 * SECOND)))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Windows of up to five spans of at least 10 ms, with at least 10 ms between them."""
    pieces = draw(st.lists(st.tuples(st.integers(160, 10**7), st.integers(160, 10**5)), min_size=1, max_size=5))
    spans: list[Span] = []
    position = 0
    for gap, length in pieces:
        spans.append(Span(position + gap, position + gap + length))
        position += gap + length
    return Window(0, tuple(spans))


times = st.floats(-1.0, 60.0)


def test_a_window_is_as_long_as_its_speech() -> None:
    assert (THREE.offset, THREE.end, THREE.length) == (10 * SECOND, 33 * SECOND, 6 * SECOND)
    assert (THREE.start_s, THREE.duration_s) == (10.0, 6.0)


@pytest.mark.parametrize(
    ("consumed_s", "spans_s"),
    [
        (0.0, [(10, 11), (20, 22), (30, 33)]),
        (0.5, [(10.5, 11), (20, 22), (30, 33)]),
        (1.0, [(20, 22), (30, 33)]),
        (1.5, [(20.5, 22), (30, 33)]),
        (3.0, [(30, 33)]),
        (5.75, [(32.75, 33)]),
        (6.0, []),
    ],
)
def test_the_rest_of_a_window_begins_where_the_model_stopped(
    consumed_s: float, spans_s: list[tuple[float, float]]
) -> None:
    rest = THREE.after(round(consumed_s * SECOND))
    assert [(span.start / SECOND, span.end / SECOND) for span in rest.spans] == spans_s


def test_the_rest_of_a_window_keeps_its_index_and_drops_the_samples() -> None:
    window = Window(7, THREE.spans, mel_max=1.5, samples=b"abcd", lead=1, tail=1)
    assert window.after(SECOND) == Window(7, THREE.spans[1:], mel_max=1.5, is_rest=True)


@given(windows(), st.data())
def test_a_window_stopped_twice_is_the_window_stopped_once_later(window: Window, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, window.length - 1))
    second = data.draw(st.integers(0, window.length - first))
    assert window.after(first).length == window.length - first
    assert window.after(first).after(second) == window.after(first + second)


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


@given(windows(), times, times, st.booleans())
def test_file_times_are_monotone(window: Window, one: float, other: float, end: bool) -> None:
    file_time = FileTime(window)
    assert file_time.of(min(one, other), end=end) <= file_time.of(max(one, other), end=end)


@given(windows(), times, st.booleans())
def test_file_times_are_inside_the_spans(window: Window, time_s: float, end: bool) -> None:
    sample = FileTime(window).of(time_s, end=end) * SAMPLE_RATE
    assert any(span.start - 1e-3 <= sample <= span.end + 1e-3 for span in window.spans)


@given(windows(), st.data())
def test_file_time_counts_the_silence_that_was_cut_out(window: Window, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(window.spans) - 1))
    inside = data.draw(st.integers(0, len(window.spans[index]) - 1))
    heard = sum(len(span) for span in window.spans[:index]) + inside
    expected = (window.spans[index].start + inside) / SAMPLE_RATE
    assert FileTime(window).of(heard / SAMPLE_RATE) == pytest.approx(expected)


def segment(text: str, *words: Word) -> Segment:
    return Segment(0, 0, 0.0, 1.0, text, (), 0.0, -0.1, 1.0, 0.0, words or None)


def test_a_transcript_joins_its_segments() -> None:
    one, two = Word(" Good", 0.0, 0.4, 0.9), Word(" evening.", 0.4, 0.9, 0.8)
    transcript = Transcript("transcribe", "en", 0.9, 2.0, (segment(" Good", one), segment(" evening.", two)))
    assert transcript.text == "Good evening."
    assert transcript.words == (one, two)


def test_a_transcript_of_silence_is_empty() -> None:
    transcript = Transcript("transcribe", "en", None, 2.0, ())
    assert (transcript.text, transcript.words) == ("", ())


def test_a_transcript_without_word_times_has_no_words() -> None:
    assert Transcript("transcribe", "en", None, 2.0, (segment(" Good"),)).words == ()
