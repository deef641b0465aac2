import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.transcript import Segment, Transcript, Window, Word
from tests.support.strategies import SECOND, THREE, windows


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
