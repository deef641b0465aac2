from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.audio.loudness import Frames
from server.transcript import Segment, WindowResult, Word
from server.transcription.word_times import MAX_BACK_S, MAX_LONGER_S, MIN_WORD_S, with_spoken_times
from tests.support.fakes import make_segment

FRAME_S = 0.01


def sound(length_s: float, *spoken: tuple[float, float]) -> Frames:
    """Frames of a window of `length_s` that are loud within each (start, end) of `spoken`, s."""
    loud = np.zeros(round(length_s / FRAME_S), np.bool_)
    for start, end in spoken:
        loud[round(start / FRAME_S) : round(end / FRAME_S)] = True
    return loud


def words_of(*times: tuple[float, float]) -> tuple[Word, ...]:
    return tuple(Word(f" w{number}", *each, 0.9) for number, each in enumerate(times))


def segment_of(words: tuple[Word, ...]) -> Segment:
    return replace(make_segment(words[0].start, words[-1].end), words=words)


def spoken(
    loud: Frames, *times: tuple[float, float], shift_s: tuple[float, float] = (0.0, 0.0)
) -> list[tuple[float, float]]:
    result = WindowResult((segment_of(words_of(*times)),), "en", 16_000)
    (segment,) = with_spoken_times(result, loud, shift_s).segments
    assert segment.words
    assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
    return [(round(word.start, 3), round(word.end, 3)) for word in segment.words]


@pytest.mark.parametrize("shift_s", [(0.05, 0.02), (-0.08, -0.1), (0.0, 0.0)])
def test_words_move_by_what_the_model_is_off(shift_s: tuple[float, float]) -> None:
    found = spoken(sound(3, (0, 3)), (0.5, 0.85), (0.9, 1.3), (2.0, 2.5), shift_s=shift_s)
    assert [start for start, _ in found] == pytest.approx([0.5 + shift_s[0], 0.9 + shift_s[0], 2.0 + shift_s[0]])
    assert found[0][1] == found[1][0]  # it sounds until the next one
    assert found[1][1] == pytest.approx(1.3 + shift_s[1] + MAX_LONGER_S)


def test_a_shift_leaves_words_in_the_window_and_of_some_length() -> None:
    assert spoken(sound(3, (0, 3)), (0.0, 0.1), (0.1, 0.2), shift_s=(-0.3, -0.3))[0] == (0.0, 0.0)
    ((start, end),) = spoken(sound(3, (0, 3)), (1.0, 1.1), shift_s=(0.3, 0.0))
    assert start == pytest.approx(1.1 - MIN_WORD_S)
    assert end > start


def test_a_word_loses_the_pause_before_it() -> None:
    loud = sound(4, (0.1, 1.0), (2.4, 3.0))
    assert spoken(loud, (0.3, 1.0), (1.0, 2.97)) == [(0.3, 1.0), (2.4, 3.0)]
    # It was aligned to begin in the end of the word before.
    assert spoken(loud, (0.3, 0.93), (0.93, 2.97)) == [(0.3, 1.0), (2.4, 3.0)]


def test_a_closure_inside_a_word_is_no_pause_before_it() -> None:
    assert spoken(sound(3, (0.4, 0.55), (0.65, 1.0)), (0.4, 0.98))[0][0] == 0.4


def test_a_word_loses_the_silence_behind_it() -> None:
    assert spoken(sound(4, (0.5, 1.2)), (0.5, 3.0))[0][1] == pytest.approx(1.2)


def test_a_start_behind_the_onset_goes_back_to_it_if_it_is_near() -> None:
    assert spoken(sound(3, (1.0, 2.0)), (1.02, 1.9))[0][0] == pytest.approx(1.0)
    far = 1.0 + MAX_BACK_S + 0.05
    assert spoken(sound(3, (1.0, 2.0)), (far, 1.9))[0][0] == pytest.approx(far)


def test_a_word_at_the_start_of_the_window_may_begin_there() -> None:
    assert spoken(sound(3, (0, 1.0)), (0.0, 0.9))[0][0] == 0.0


def test_a_word_that_still_sounds_lasts_until_it_is_quiet_but_not_into_the_next() -> None:
    loud = sound(4, (0.5, 1.3), (2.0, 3.0))
    assert spoken(loud, (0.5, 1.2), (1.9, 2.9)) == [(0.5, 1.3), (2.0, 3.0)]
    assert spoken(sound(4, (0.5, 3.0)), (0.5, 1.2), (1.3, 2.9))[0][1] == pytest.approx(1.3)


def test_a_word_that_is_quiet_throughout_keeps_its_times() -> None:
    assert spoken(sound(3, (2, 3)), (0.5, 0.9)) == [(0.5, 0.9)]


def test_a_sliver_of_sound_at_its_end_leaves_the_start_of_a_word() -> None:
    ((start, _),) = spoken(sound(3, (0.95, 1.0)), (0.5, 1.0))
    assert start <= 1.0 - MIN_WORD_S


def test_times_past_the_window_stay_in_order() -> None:
    assert spoken(sound(1, (0, 1)), (0.5, 1.2), (1.2, 1.4))[1][1] >= 1.2


@pytest.mark.parametrize(
    ("segment", "trimmed"),
    [
        ((0.0, 3.0), (1.0, 2.0)),
        ((0.6, 2.4), (0.6, 2.4)),  # half a second is a usual cue's margin
        ((0.0, 2.4), (1.0, 2.4)),
        ((2.2, 3.0), (2.2, 3.0)),  # nothing in it is loud
        ((0.0, 9.0), (1.0, 2.0)),
    ],
)
def test_a_segment_without_words_loses_long_silence_at_its_ends(
    segment: tuple[float, float], trimmed: tuple[float, float]
) -> None:
    result = WindowResult((make_segment(*segment),), "en", 48_000)
    (placed,) = with_spoken_times(result, sound(3, (1, 2))).segments
    assert (placed.start, placed.end) == pytest.approx(trimmed)


def test_a_segment_whose_words_are_an_empty_list_is_trimmed_too() -> None:
    result = WindowResult((replace(make_segment(0.0, 3.0), words=()),), "en", 48_000)
    (placed,) = with_spoken_times(result, sound(3, (1, 2))).segments
    assert (placed.start, placed.end, placed.words) == (1.0, 2.0, ())


@st.composite
def aligned(draw: st.DrawFn) -> list[tuple[float, float]]:
    edges = sorted(draw(st.lists(st.integers(0, 320), min_size=2, max_size=24)))
    return [(start / 100, end / 100) for start, end in zip(edges[::2], edges[1::2], strict=False)]


@given(aligned(), st.lists(st.booleans(), max_size=300), st.integers(1, 5))
def test_words_stay_in_order_without_overlap(times: list[tuple[float, float]], loud: list[bool], cut: int) -> None:
    words = words_of(*times)
    segments = tuple(segment_of(part) for part in (words[:cut], words[cut:]) if part)
    result = with_spoken_times(WindowResult(segments, "en", 48_000), np.array(loud, np.bool_))
    found = [word for segment in result.segments for word in segment.words or ()]
    assert [word.word for word in found] == [word.word for word in words]
    edges = [edge for word in found for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert all(edge >= 0 for edge in edges)
