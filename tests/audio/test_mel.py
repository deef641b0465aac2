import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import example, given
from hypothesis import strategies as st

from server.audio.mel import frames_of, log_mel, loudest, mel_filters, padded
from server.transcript import CONTEXT_SAMPLES, FRAME_SAMPLES, MAX_FRAMES, SAMPLE_RATE, Span, Window
from tests.conftest import samples_of, window_of

pytestmark = pytest.mark.numeric

Floats = npt.NDArray[np.float32]

TOLERANCE = 1e-4  # of values between about -1 and 2


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    """faster-whisper's, with 80 mel bands."""
    return FeatureExtractor()


@pytest.fixture(scope="module")
def whole(extractor: FeatureExtractor) -> Floats:
    """Features of the recording that windows are cut from."""
    return features_of(extractor, samples_of("two_minutes.mp3"))


def features_of(extractor: FeatureExtractor, samples: npt.NDArray[np.int16]) -> Floats:
    features: Floats = extractor(samples.astype(np.float32) / 32768)
    return features


def mel_max(features: Floats) -> float:
    """The largest log-mel value behind `features`."""
    return float(features.max()) * 4 - 4


@pytest.mark.parametrize("name", ["en_00.wav", "human_00.wav", "quiet.wav", "noise_10s.flac", "silence_10s.wav"])
def test_a_whole_file_has_the_features_that_faster_whisper_gives_it(extractor: FeatureExtractor, name: str) -> None:
    window = window_of(name)
    features = log_mel(window, extractor.mel_filters)
    expected = features_of(extractor, samples_of(name))[:, : frames_of(window)]
    assert features.dtype == np.float32
    assert features.shape == (80, window.length // FRAME_SAMPLES)
    np.testing.assert_allclose(features, expected, atol=TOLERANCE)


@pytest.mark.parametrize("length", [1, 159, 160, 161, 399, 400, 16_000])
def test_the_shortest_windows_have_features(extractor: FeatureExtractor, length: int) -> None:
    samples = samples_of("en_00.wav")[10_000 : 10_000 + length]
    features = log_mel(window_of(samples), extractor.mel_filters)
    assert features.shape == (80, length // FRAME_SAMPLES)
    if length >= 400:  # faster-whisper can't do less
        expected = features_of(extractor, samples)[:, : length // FRAME_SAMPLES]
        np.testing.assert_allclose(features, expected, atol=TOLERANCE)


def test_a_model_with_128_bands_gets_128(extractor: FeatureExtractor) -> None:
    large = FeatureExtractor(feature_size=128)
    window = window_of("en_00.wav")
    expected = features_of(large, samples_of("en_00.wav"))[:, : frames_of(window)]
    np.testing.assert_allclose(log_mel(window, large.mel_filters), expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (0, 500),  # the file's start
        (1, 500),  # less context than half an FFT frame
        (300, 900),
        (4000, 7000),
        (11_000, None),  # the file's end
    ],
)
def test_a_window_with_its_context_is_a_slice_of_the_whole_file(
    extractor: FeatureExtractor, whole: Floats, first: int, last: int | None
) -> None:
    samples = samples_of("two_minutes.mp3")
    last = len(samples) // FRAME_SAMPLES if last is None else last
    end = len(samples) if last == len(samples) // FRAME_SAMPLES else last * FRAME_SAMPLES
    cut = window_of(samples, first * FRAME_SAMPLES, end, context=CONTEXT_SAMPLES)
    window = Window(0, cut.spans, mel_max(whole), cut.samples, cut.lead, cut.tail)
    features = log_mel(window, extractor.mel_filters)
    np.testing.assert_allclose(features, whole[:, first:last], atol=TOLERANCE)


@pytest.fixture(scope="module")
def ours() -> Floats:
    """Our own features of that recording, as one window."""
    return log_mel(window_of("two_minutes.mp3"), mel_filters(80))


@example(0, 1)
@example(0, 1_000_000)
@given(first=st.integers(0, 11_000), frames=st.integers(1, MAX_FRAMES))
def test_a_frame_is_the_same_to_the_last_bit_whatever_window_it_is_in(
    ours: Floats, first: int, frames: int
) -> None:
    whole, filters = window_of("two_minutes.mp3"), mel_filters(80)
    start, end = first * FRAME_SAMPLES, (first + frames) * FRAME_SAMPLES
    cut = window_of("two_minutes.mp3", start, min(end, whole.length), context=CONTEXT_SAMPLES)
    window = replace(cut, mel_max=loudest(whole, filters))
    assert np.array_equal(log_mel(window, filters), ours[:, first : first + frames])


FEATURES = """
import sys
from server.audio.mel import log_mel, mel_filters
from server.transcript import Span, Window
samples = sys.stdin.buffer.read()
window = Window(0, (Span(0, len(samples) // 2),), samples=samples)
for mels in (80, 128):
    sys.stdout.buffer.write(log_mel(window, mel_filters(mels)).tobytes())
"""


@pytest.mark.parametrize("threads", ["2", "4"])
def test_features_are_the_same_to_the_last_bit_whatever_the_number_of_threads(threads: str) -> None:
    samples = samples_of("two_minutes.mp3")[: 30 * SAMPLE_RATE].tobytes()
    one, several = (
        subprocess.run(
            [sys.executable, "-c", FEATURES],
            env=os.environ | {"OPENBLAS_NUM_THREADS": count},
            input=samples,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for count in ("1", threads)
    )
    assert len(one) == (80 + 128) * MAX_FRAMES * 4
    assert one == several


def test_without_its_context_only_the_outermost_frames_differ(extractor: FeatureExtractor, whole: Floats) -> None:
    samples = samples_of("two_minutes.mp3")
    cut = window_of(samples, 64_000, 96_000)
    features = log_mel(Window(0, cut.spans, mel_max(whole), cut.samples), extractor.mel_filters)
    off = np.abs(features - whole[:, 400:600]).max(axis=0)
    assert (off[2:-2] < TOLERANCE).all()
    assert (off[[0, -1]] > 10 * TOLERANCE).all()


def test_features_of_two_spans_equal_those_of_the_file(extractor: FeatureExtractor, whole: Floats) -> None:
    samples = samples_of("two_minutes.mp3")
    spans = (Span(16_000, 32_000), Span(64_000, 80_000))
    data = b"".join(samples[span.start : span.end].tobytes() for span in spans)
    features = log_mel(Window(0, spans, mel_max(whole), data), extractor.mel_filters)
    np.testing.assert_allclose(features[:, 2:98], whole[:, 102:198], atol=TOLERANCE)
    np.testing.assert_allclose(features[:, 102:198], whole[:, 402:498], atol=TOLERANCE)


def test_features_are_clipped_below_the_maximum_of_the_file(extractor: FeatureExtractor) -> None:
    quiet = window_of("quiet.wav")
    known = Window(0, quiet.spans, 8.0, quiet.samples)
    assert log_mel(quiet, extractor.mel_filters).std() > 0.1
    assert (log_mel(known, extractor.mel_filters) == (8.0 - 8.0 + 4.0) / 4.0).all()


def test_features_are_padded_with_silence() -> None:
    features = np.ones((80, 123), np.float32)
    full = padded(features, 3000)
    assert full.shape == (80, 3000)
    assert full.dtype == np.float32
    assert (full[:, :123] == 1).all()
    assert (full[:, 123:] == 0).all()


def test_a_full_window_needs_no_padding() -> None:
    samples = np.zeros(30 * SAMPLE_RATE, np.int16)
    assert frames_of(window_of(samples)) == MAX_FRAMES
    assert padded(np.ones((80, MAX_FRAMES), np.float32), MAX_FRAMES).shape == (80, MAX_FRAMES)
