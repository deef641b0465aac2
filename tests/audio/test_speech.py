import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.audio.speech import (
    CHUNK,
    Detector,
    SpeechDetector,
    SpeechEnd,
    SpeechEvent,
    SpeechModel,
    SpeechStart,
    make_detector,
)
from server.audio.windows import WindowPacker
from server.options import VadOptions
from server.transcript import FRAME_SAMPLES, MAX_WINDOW_S, SAMPLE_RATE, Span, Window
from tests.conftest import samples_of

Samples = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]

BLOCK = 10 * SAMPLE_RATE
PADDING_S = 0.4  # of VadOptions


class ScriptedModel(SpeechModel):
    """Gives probabilities that a test tells it, one a chunk, and then silence."""

    def __init__(self, probabilities: Iterable[float]) -> None:
        self._left = iter(probabilities)

    def run(self, rows: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
        return np.array([next(self._left, 0.0) for _ in rows], np.float32), h, c


class ScriptedDetector:
    """Reports speech where a test puts it, as soon as it was fed."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._events: list[SpeechEvent] = []
        for span in spans:
            self._events += [SpeechStart(span.start), SpeechEnd(span.end)]
        self._position = 0

    def feed(self, block: Samples) -> list[SpeechEvent]:
        self._position += len(block)
        known = [event for event in self._events if event.sample <= self._position]
        del self._events[: len(known)]
        return known

    def close(self) -> list[SpeechEvent]:
        return self._events


@pytest.fixture(scope="module")
def silero() -> SpeechModel:
    return SpeechModel()


def blocks_of(samples: Samples, size: int) -> list[Samples]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def speech_in(blocks: Iterable[Samples], detector: SpeechDetector) -> list[Span]:
    """What the detector hears, paired up."""
    events = [event for block in blocks for event in detector.feed(block)] + detector.close()
    assert len(events) % 2 == 0
    spans = []
    for begin, end in zip(events[::2], events[1::2], strict=True):
        assert isinstance(begin, SpeechStart)
        assert isinstance(end, SpeechEnd)
        spans.append(Span(begin.sample, end.sample))
    return spans


def windows_in(
    samples: Samples, detector: SpeechDetector, options: VadOptions | None = None, *, block: int = BLOCK
) -> list[Window]:
    packer = WindowPacker(options or VadOptions())
    windows: list[Window] = []
    for piece in blocks_of(samples, block):
        windows += packer.feed(piece, detector.feed(piece))
    return windows + packer.close(detector.close())


def spans_s(window: Window) -> list[tuple[float, float]]:
    return [(span.start / SAMPLE_RATE, span.end / SAMPLE_RATE) for span in window.spans]


def at(*spans: tuple[float, float]) -> ScriptedDetector:
    """A detector that hears speech at these seconds."""
    return ScriptedDetector([Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE)) for start, end in spans])


def noise(seconds: float, *quiet: tuple[float, float], level: int = 8_000) -> Samples:
    """Noise of even loudness with dips in which it is far lower."""
    samples = np.random.default_rng(1).integers(-level, level, round(seconds * SAMPLE_RATE)).astype(np.int16)
    for start, end in quiet:
        samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] //= 100
    return samples


# The detector


@pytest.mark.parametrize(
    "name",
    [
        "en_00.wav",
        "en_12.wav",
        "en_16.ogg",
        "human_00.wav",
        "german_45s.mp3",
        "long_pause.flac",
        "lead_silence.flac",
        "quiet.wav",
        "noisy_10db.flac",
        "two_minutes.mp3",
    ],
)
@pytest.mark.parametrize("size", [BLOCK, 3 * SAMPLE_RATE, 12_347])
def test_speech_is_where_faster_whisper_finds_it_whatever_the_blocks(
    silero: SpeechModel, name: str, size: int
) -> None:
    from faster_whisper.vad import get_speech_timestamps

    samples = samples_of(name)
    expected = get_speech_timestamps(
        samples.astype(np.float32) / 32768, min_silence_duration_ms=160, speech_pad_ms=0
    )
    found = speech_in(blocks_of(samples, size), Detector(silero, VadOptions()))
    assert found == [Span(each["start"], each["end"]) for each in expected]
    assert found


@pytest.mark.parametrize("size", [1, 100, 511, 512, 513])
def test_blocks_may_be_shorter_than_a_chunk(silero: SpeechModel, size: int) -> None:
    samples = samples_of("en_00.wav")[: SAMPLE_RATE // 2]
    whole = speech_in([samples], Detector(silero, VadOptions()))
    assert speech_in(blocks_of(samples, size), Detector(silero, VadOptions())) == whole
    assert whole


@pytest.mark.parametrize("name", ["silence_10s.wav", "noise_10s.flac", "noise_45s.ogg"])
def test_silence_and_noise_give_no_window(silero: SpeechModel, name: str) -> None:
    assert windows_in(samples_of(name), make_detector(silero, VadOptions())) == []


def test_requests_can_share_a_model(silero: SpeechModel) -> None:
    one, other = Detector(silero, VadOptions()), Detector(silero, VadOptions())
    samples = samples_of("en_00.wav")
    interleaved: list[SpeechEvent] = []
    for block in blocks_of(samples, 4_000):
        interleaved += one.feed(block)
        other.feed(block[::-1])
    alone = Detector(silero, VadOptions())
    assert interleaved == [event for block in blocks_of(samples, 4_000) for event in alone.feed(block)]


HIGH, MIDDLE, LOW = 0.5, 0.4, 0.3  # at the threshold, inside the hysteresis, below it


@pytest.mark.parametrize(
    ("probabilities", "chunks"),
    [
        ([LOW, HIGH, HIGH], [(1, 3)]),  # goes on to the end
        ([MIDDLE, HIGH, MIDDLE, MIDDLE], [(1, 4)]),  # the middle starts nothing and ends nothing
        ([HIGH, *[LOW] * 5], [(0, 6)]),  # five chunks are 128 ms of silence between the first and the last
        ([HIGH, *[LOW] * 6], [(0, 1)]),  # 160 ms
        ([HIGH, *[LOW] * 4, MIDDLE, LOW], [(0, 1)]),  # the middle does not end the silence
        ([HIGH, *[LOW] * 5, HIGH, *[LOW] * 6], [(0, 7)]),
        ([HIGH, *[LOW] * 6, HIGH, LOW], [(0, 1), (7, 9)]),
        ([LOW, MIDDLE, 0.499], []),
        ([], []),
    ],
)
def test_speech_begins_at_the_threshold_and_ends_with_silence(
    probabilities: list[float], chunks: list[tuple[int, int]]
) -> None:
    samples = np.zeros(CHUNK * len(probabilities), np.int16)
    found = speech_in([samples], Detector(ScriptedModel(probabilities), VadOptions()))
    assert found == [Span(start * CHUNK, end * CHUNK) for start, end in chunks]


def test_the_threshold_and_the_silence_can_be_set() -> None:
    options = VadOptions(threshold=0.8, silence_duration_ms=64)
    samples = np.zeros(CHUNK * 7, np.int16)
    found = speech_in([samples], Detector(ScriptedModel([0.7, 0.8, 0.6, 0.6, 0.6, 0.9, 0.9]), options))
    assert found == [Span(CHUNK, 2 * CHUNK), Span(5 * CHUNK, 7 * CHUNK)]


def test_speech_in_the_last_partial_chunk_ends_with_the_file() -> None:
    samples = np.zeros(CHUNK + 100, np.int16)
    assert speech_in([samples], Detector(ScriptedModel([LOW, HIGH]), VadOptions())) == [Span(CHUNK, CHUNK + 100)]


# The packer


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


def test_nothing_said_gives_no_window() -> None:
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


def test_windows_are_never_longer_than_the_model_hears() -> None:
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
def test_no_speech_is_lost_and_none_is_heard_twice(
    talk: tuple[list[Span], Samples, VadOptions], block: int
) -> None:
    speech, samples, options = talk
    length = len(samples)
    windows = windows_in(samples, ScriptedDetector(speech), options, block=block)
    assert [window.index for window in windows] == list(range(len(windows)))
    assert all(0 < window.length <= options.window_s * SAMPLE_RATE for window in windows)
    heard = [span for window in windows for span in window.spans]
    assert all(0 <= span.start < span.end <= length for span in heard)
    assert all(one.end <= other.start for one, other in pairwise(heard))
    unheard = np.zeros(length, bool)
    for span in speech:
        unheard[span.start : span.end] = True
    for span in heard:
        unheard[span.start : span.end] = False
    assert not unheard.any()


@given(st.lists(st.sampled_from([LOW, MIDDLE, HIGH]), max_size=400), st.integers(0, CHUNK - 1))
def test_no_detected_speech_is_lost(probabilities: list[float], rest: int) -> None:
    samples = np.resize(noise(1), CHUNK * len(probabilities) + rest)
    options = VadOptions(window_s=2)
    speech = speech_in(blocks_of(samples, 8_000), Detector(ScriptedModel(probabilities), options))
    windows = windows_in(samples, Detector(ScriptedModel(probabilities), options), options, block=8_000)
    heard = [span for window in windows for span in window.spans]
    covered = np.zeros(len(samples), bool)
    for span in heard:
        covered[span.start : span.end] = True
    assert all(covered[span.start : span.end].all() for span in speech)


@pytest.mark.parametrize("length", [0, 1, 100, 7 * SAMPLE_RATE + 1, 30 * SAMPLE_RATE, 95 * SAMPLE_RATE + 77])
def test_without_detection_the_windows_are_the_whole_file(length: int) -> None:
    options = VadOptions(enabled=False)
    samples = np.resize(noise(3), length)
    windows = windows_in(samples, make_detector(ScriptedModel([]), options), options)
    spans = [span for window in windows for span in window.spans]
    assert sum(len(span) for span in spans) == length
    assert all(one.end == other.start for one, other in pairwise(spans))
    assert all(window.duration_s <= MAX_WINDOW_S for window in windows)
    assert not spans or spans[0].start == 0


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


def test_onnxruntime_does_not_report_home(tmp_path: Path) -> None:
    """It writes a device id into the home folder when it is about to."""
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    script = "from server.audio.speech import SpeechModel; SpeechModel()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
