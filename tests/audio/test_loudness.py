from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest

from server.audio.loudness import MIN_QUIET, loud_frames
from server.transcript import FRAME_SAMPLES, SAMPLE_RATE, Span, Window

Samples = npt.NDArray[np.int16]
EDGE = 2  # frames around a change, over which levels are averaged


def noise(frames: int, level: float, seed: int = 1) -> Samples:
    """White noise of `frames` of 10 ms, rms `level` of full scale."""
    values = np.random.default_rng(seed).normal(0, 32768 * level, frames * FRAME_SAMPLES)
    return values.clip(-32768, 32767).astype(np.int16)


def window(*parts: Samples, lead: int = 0) -> Window:
    samples = np.concatenate(parts)
    return Window(0, (Span(lead, len(samples)),), samples=samples.tobytes(), lead=lead)


@pytest.mark.parametrize("quiet", [0.0, 0.001, 0.01], ids=["digital silence", "-60 dB", "-40 dB"])
@pytest.mark.parametrize("loudness", [0.1, 0.3])
def test_frames_are_loud_where_sound_rises_above_the_noise(quiet: float, loudness: float) -> None:
    loud = loud_frames(window(noise(50, quiet), noise(100, loudness), noise(60, quiet)))
    assert len(loud) == 210
    assert not loud[: 50 - EDGE].any()
    assert loud[50 + EDGE : 150 - EDGE].all()
    assert not loud[150 + EDGE :].any()


def test_everything_is_loud_where_noise_and_speech_can_not_be_distinguished() -> None:
    assert loud_frames(window(noise(50, 0.1), noise(50, 0.12))).all()
    assert loud_frames(window(np.zeros(SAMPLE_RATE, np.int16))).all()


def test_clicks_are_no_speech_and_short_closures_are_no_pauses() -> None:
    parts = [noise(60, 0.001), noise(1, 0.3), noise(60, 0.001), noise(30, 0.3), noise(4, 0.001), noise(30, 0.3)]
    loud = loud_frames(window(*parts, noise(40, 0.001)))
    # Averaging makes three frames of the click's one, but a fainter three.
    assert loud[: 121 - EDGE].sum() <= 2 * EDGE - 1
    assert loud[121 + EDGE : 185 - EDGE].all()
    pause = noise(MIN_QUIET + 2 * EDGE, 0.001)
    assert not loud_frames(window(noise(60, 0.3), pause, noise(60, 0.3))).all()


def test_context_around_the_window_is_left_out() -> None:
    lead = FRAME_SAMPLES
    loud = loud_frames(window(noise(1, 0.3), noise(50, 0.001), noise(50, 0.3), lead=lead))
    assert len(loud) == 100
    assert not loud[: 50 - EDGE].any()


@pytest.mark.parametrize("length", list(chain(range(1, 4), (FRAME_SAMPLES - 1, FRAME_SAMPLES, FRAME_SAMPLES + 1))))
def test_windows_of_any_length_have_a_value_per_whole_frame(length: int) -> None:
    assert len(loud_frames(window(noise(2, 0.1)[:length]))) == length // FRAME_SAMPLES
