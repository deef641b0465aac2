import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.audio.speech import (
    CHUNK,
    Detector,
    SpeechEvent,
    SpeechModel,
    make_detector,
)
from server.options import VadOptions
from server.transcript import MAX_WINDOW_S, SAMPLE_RATE, Span
from tests.conftest import samples_of
from tests.support.speech import (
    BLOCK,
    ScriptedModel,
    blocks_of,
    noise,
    speech_in,
    windows_in,
)


@pytest.fixture(scope="module")
def silero() -> SpeechModel:
    return SpeechModel()


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


@given(st.lists(st.sampled_from([LOW, MIDDLE, HIGH]), max_size=400), st.integers(0, CHUNK - 1))
def test_no_detected_speech_is_lost(probabilities: list[float], rest: int) -> None:
    samples = np.resize(noise(1), CHUNK * len(probabilities) + rest)
    options = VadOptions(window_s=2)
    speech = speech_in(blocks_of(samples, 8_000), Detector(ScriptedModel(probabilities), options))
    windows = windows_in(samples, Detector(ScriptedModel(probabilities), options), options, block=8_000)
    packed = [span for window in windows for span in window.spans]
    covered = np.zeros(len(samples), bool)
    for span in packed:
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


def test_onnxruntime_does_not_report_home(tmp_path: Path) -> None:
    """It writes a device id into the home folder when it is about to."""
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    script = "from server.audio.speech import SpeechModel; SpeechModel()"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=60)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
