"""Windows as the packer cuts them from speech that the tests place."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.audio.speech import (
    SpeechEnd,
    SpeechStart,
)
from server.audio.windows import WindowPacker
from server.options import VadOptions
from server.transcript import FRAME_SAMPLES, MAX_WINDOW_S, SAMPLE_RATE, Span
from tests.support.speech import BLOCK, Samples, ScriptedDetector, at, noise, spans_s, windows_in

PADDING_S = 0.4  # of VadOptions


def test_a_short_recording_is_one_window() -> None:
    (window,) = windows_in(noise(12), at((1, 3), (3.5, 6)))
    assert (window.index, spans_s(window)) == (0, [(0.6, 6.4)])


def test_long_silence_is_cut_out_but_for_the_padding() -> None:
    (window,) = windows_in(noise(30), at((1, 2), (10, 11), (11.7, 13)))
    assert spans_s(window) == [(0.6, 2.4), (9.6, 13.4)]


def test_a_pause_in_speech_is_kept() -> None:
    (window,) = windows_in(noise(30), at((1, 2), (3.9, 6), (8.2, 9)))
    assert spans_s(window) == [(0.6, 6.4), (7.8, 9.4)]  # 1.9 s, then 2.2 s of silence


def test_long_pauses_are_cut_out_where_a_window_has_no_room_for_all() -> None:
    """Pauses make no more windows: the shortest are kept."""
    speech = [(0, 2), (3.8, 5), (6.1, 7.5)]
    (window,) = windows_in(noise(12), at(*speech), VadOptions(window_s=7.5))
    assert spans_s(window) == [(0, 2.4), (3.4, 7.9)]
    (window,) = windows_in(noise(12), at(*speech), VadOptions(window_s=8))
    assert spans_s(window) == [(0, 7.9)]


@pytest.mark.parametrize(("speech_end_s", "window_end_s"), [(27.9, 28.3), (28.1, 30)])
def test_a_pause_before_the_end_of_the_file_is_kept(speech_end_s: float, window_end_s: float) -> None:
    (window,) = windows_in(noise(30), at((4, speech_end_s)))
    assert spans_s(window) == [(3.6, window_end_s)]


def test_the_end_of_the_file_is_cut_off_where_a_window_has_no_room_for_it() -> None:
    (window,) = windows_in(noise(9.5), at((0, 8)), VadOptions(window_s=9))
    assert spans_s(window) == [(0, 8.4)]


def test_padding_stays_inside_the_file() -> None:
    (window,) = windows_in(noise(20), at((0.1, 2), (19, 19.9)))
    assert spans_s(window) == [(0, 2.4), (18.6, 20)]


def test_silence_gives_no_window() -> None:
    assert windows_in(noise(100), at()) == []


@pytest.mark.parametrize("block", [FRAME_SAMPLES, 3 * SAMPLE_RATE, 1_000 * SAMPLE_RATE])
@pytest.mark.parametrize(
    ("speech", "cuts"),
    [
        # The gaps of the second half are 0.3, 0.6 and 0.2 s; the longest of all lies in the first half.
        ([(0, 3), (4, 6), (6.3, 7), (7.6, 9), (9.2, 14)], [(7, 7.6)]),
        # Of equal gaps the last: fuller windows cost less.
        ([(0, 3), (3.3, 6), (6.3, 8), (8.3, 14)], [(8, 8.3)]),
        # No gap in the second half: better a short window than a cut word.
        ([(0, 2), (2.5, 3), (3.2, 11)], [(2, 2.5)]),
        # A silence longer than two paddings is a gap like any other.
        ([(0, 5), (5.5, 6.5), (9, 14)], [(6.5, 9)]),
    ],
)
def test_windows_are_cut_at_the_longest_gap_of_the_second_half(
    speech: list[tuple[float, float]], cuts: list[tuple[float, float]], block: int
) -> None:
    windows = windows_in(noise(15), at(*speech), VadOptions(window_s=10), block=block)
    assert len(windows) == len(cuts) + 1
    for (one, other), (quiet, loud) in zip(pairwise(windows), cuts, strict=True):
        assert quiet <= one.end / SAMPLE_RATE <= other.start_s <= loud


def test_a_cut_gives_each_side_its_half_of_a_short_gap() -> None:
    one, other = windows_in(noise(17), at((0, 9), (9.5, 14)), VadOptions(window_s=10))
    assert spans_s(one) == [(0, 9.25)]
    assert spans_s(other) == [(9.25, 14.4)]


@pytest.mark.parametrize("block", [FRAME_SAMPLES, 3 * SAMPLE_RATE, 1_000 * SAMPLE_RATE])
def test_unbroken_speech_is_cut_at_the_quietest_point_of_the_second_half(block: int) -> None:
    samples = noise(14, (2, 2.2), (7.2, 7.4), (8, 8.02))
    one, other = windows_in(samples, at((0, 14)), VadOptions(window_s=10), block=block)
    assert 7.2 <= one.end / SAMPLE_RATE <= 7.4
    assert one.end == other.offset


def test_evenly_loud_speech_fills_its_windows() -> None:
    samples = np.full(25 * SAMPLE_RATE, 1_000, np.int16)
    windows = windows_in(samples, at((0, 25)), VadOptions(window_s=10))
    assert [window.length for window in windows[:2]] == pytest.approx([10 * SAMPLE_RATE] * 2, abs=FRAME_SAMPLES)
    assert len(windows) == 3


def test_windows_are_never_longer_than_the_models_window() -> None:
    windows = windows_in(noise(100), at((0, 100)), VadOptions(window_s=60))
    assert all(window.duration_s <= MAX_WINDOW_S for window in windows)
    assert sum(window.length for window in windows) == 100 * SAMPLE_RATE


def test_windows_come_while_the_recording_goes_on() -> None:
    packer, samples = WindowPacker(VadOptions(window_s=10)), noise(12)
    detector = at((0, 9), (9.5, 100))
    assert packer.feed(samples[: 9 * SAMPLE_RATE], detector.feed(samples[: 9 * SAMPLE_RATE])) == []
    (window,) = packer.feed(samples[9 * SAMPLE_RATE :], detector.feed(samples[9 * SAMPLE_RATE :]))
    assert spans_s(window) == [(0, 9.25)]


@pytest.mark.parametrize("block", [FRAME_SAMPLES, 3 * SAMPLE_RATE, 1_000 * SAMPLE_RATE])
def test_a_window_does_not_end_in_or_behind_the_speech_after_the_one_it_cuts(block: int) -> None:
    """The first speech fits a window with half of its padding only; it is quietest behind the next, short one."""
    speech = [(1, 30.25), (30.442, 30.474), (30.666, 62)]
    first, second, *_, last = windows_in(noise(63, (0, 1), (30.474, 30.666)), at(*speech), block=block)
    assert 25.6 <= first.end / SAMPLE_RATE <= 30.442
    assert second.offset == first.end
    assert spans_s(last)[-1][1] == 63


@st.composite
def talks(draw: st.DrawFn) -> tuple[list[Span], Samples, VadOptions]:
    """Speech of any kind, often about as long as a window, and the recording around it."""
    options = VadOptions(
        window_s=draw(st.sampled_from([0.3, 1.0, 2.5, 4.0])),
        prefix_padding_ms=draw(st.sampled_from([0, 30, 400, 5_000, 60_000])),
    )
    limit = round(options.window_s * SAMPLE_RATE)
    almost = st.integers(limit // 2, limit + 1)  # fits a window, perhaps with less than both of its paddings
    lengths, gaps = (
        st.integers(1, 600) | almost | st.integers(1, 60_000),
        st.integers(1, 600) | st.integers(1, 120_000),
    )
    spans: list[Span] = []
    position = draw(st.sampled_from([0, 1, 9_000]))
    for length, gap in draw(st.lists(st.tuples(lengths, gaps), max_size=12)):
        spans.append(Span(position, position + length))
        position += length + gap
    samples = np.resize(noise(1), (spans[-1].end if spans else 0) + draw(st.integers(0, 20_000)))
    if draw(st.booleans()):
        for before, after in pairwise([Span(0, 0), *spans]):
            samples[before.end : after.start] //= 100
    return spans, samples, options


@given(talk=talks(), block=st.sampled_from([FRAME_SAMPLES * 7, FRAME_SAMPLES * 100, FRAME_SAMPLES * 1_000]))
@settings(max_examples=500)
def test_no_speech_is_lost_or_repeated(talk: tuple[list[Span], Samples, VadOptions], block: int) -> None:
    speech, samples, options = talk
    length = len(samples)
    windows = windows_in(samples, ScriptedDetector(speech), options, block=block)
    assert [window.index for window in windows] == list(range(len(windows)))
    assert all(0 < window.length <= options.window_s * SAMPLE_RATE for window in windows)
    packed = [span for window in windows for span in window.spans]
    assert all(0 <= span.start < span.end <= length for span in packed)
    assert all(one.end <= other.start for one, other in pairwise(packed))
    missed = np.zeros(length, bool)
    for span in speech:
        missed[span.start : span.end] = True
    for span in packed:
        missed[span.start : span.end] = False
    assert not missed.any()


def test_memory_does_not_grow_with_the_recording() -> None:
    options = VadOptions()
    block = noise(10)
    packer, windows = WindowPacker(options), 0
    sizes: list[int] = []
    tracemalloc.start()
    try:
        for number in range(360):  # an hour: talk for ten minutes, silence for ten
            start, talking = number * BLOCK, number // 60 % 2 == 0
            speech = [SpeechStart(start)] if talking and number % 60 == 0 else []
            silence = [SpeechEnd(start)] if not talking and number % 60 == 0 else []
            windows += len(packer.feed(block, [*speech, *silence]))
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert windows >= 60
    assert max(sizes) < 100_000  # an hour of loudness values would be 1.4 MB
