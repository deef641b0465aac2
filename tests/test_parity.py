"""Sequential mode against faster-whisper itself: the same segments, tokens, temperatures and word times."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper import WhisperModel

from server.mel import loudest, mel_filters
from server.options import DecodingOptions
from server.sequential import in_sequence
from server.transcript import CONTEXT_SAMPLES, FRAME_SAMPLES, Span, Window, WindowResult
from server.whisper import Whisper
from tests.bad_inputs import DATA
from tests.conftest import samples_of
from tests.stepping import transcribe

OPTIONS = DecodingOptions(temperatures=(0.0,), condition_on_previous_text=True)
Samples = npt.NDArray[np.int16]
Row = tuple[str, tuple[int, ...], int, float, float, float]


@pytest.fixture(scope="module")
def reference(demo_model: Path) -> WhisperModel:
    return WhisperModel(str(demo_model), device="cpu", compute_type="int8", cpu_threads=1)


def loaded(window: Window, samples: Samples) -> Window:
    """What a spool makes of a window."""
    (span,) = window.spans
    lead, tail = min(CONTEXT_SAMPLES, span.start), min(CONTEXT_SAMPLES, len(samples) - span.end)
    return replace(window, samples=samples[span.start - lead : span.end + tail].tobytes(), lead=lead, tail=tail)


def ours(model: Whisper, samples: Samples, options: DecodingOptions) -> Iterator[tuple[Window, WindowResult]]:
    whole = Span(0, len(samples))
    steps = in_sequence([whole], options, loudest(loaded(Window(0, (whole,)), samples), mel_filters(model.mels)))
    asked = next(steps, None)
    while asked:
        window, decoding = asked
        (result,) = transcribe(model, [(loaded(window, samples), decoding)])
        yield window, result
        try:
            asked = steps.send(result)
        except StopIteration:
            return


def rows_of_ours(model: Whisper, samples: Samples, options: DecodingOptions) -> tuple[list[Row], list[Any]]:
    rows, words = [], []
    for window, result in ours(model, samples, options):
        for one in result.segments:
            start, end = round(window.start_s + one.start, 2), round(window.start_s + one.end, 2)
            rows.append((one.text, one.tokens, round(window.start_s * 100), start, end, one.temperature))
            words += [
                (round(window.start_s + w.start, 2), round(window.start_s + w.end, 2)) for w in one.words or ()
            ]
    return rows, words


def rows_of_theirs(model: WhisperModel, samples: Samples, words: bool) -> tuple[list[Row], list[Any]]:
    segments, _ = model.transcribe(samples / np.float32(32768), temperature=0.0, word_timestamps=words)
    rows: list[Row] = []
    times: list[tuple[float, float]] = []
    for one in segments:
        start, end = round(float(one.start), 2), round(float(one.end), 2)
        rows.append((one.text, tuple(one.tokens), one.seek, start, end, one.temperature))
        for word in one.words or ():
            if word.word.startswith(" ") or not times:
                times.append((round(float(word.start), 2), round(float(word.end), 2)))
            else:  # a piece behind punctuation, which we join
                times[-1] = (times[-1][0], round(float(word.end), 2))
    return rows, times


def assert_equal(model: Whisper, reference: WhisperModel, name: str, words: bool) -> None:
    samples = samples_of(name)
    mine = rows_of_ours(model, samples, replace(OPTIONS, word_timestamps=words))
    assert mine == rows_of_theirs(reference, samples, words)


QUICK = ["en_00.wav", "en_07.wav", "de_01.wav", "es_00.wav", "human_09.wav", "lead_silence.flac"]
SHORT = sorted(path.name for path in DATA.glob("*_??.*") if path.name not in QUICK)
LONG = ["german_45s.mp3", "two_minutes.mp3"]


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SHORT)])
def test_short_recordings_become_what_faster_whisper_makes_of_them(
    demo: Whisper, reference: WhisperModel, name: str, words: bool
) -> None:
    assert_equal(demo, reference, name, words)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", [LONG[0], pytest.param(LONG[1], marks=pytest.mark.slow)])
def test_long_recordings_do_too_given_the_same_spectrogram(
    demo: Whisper, reference: WhisperModel, monkeypatch: pytest.MonkeyPatch, name: str, words: bool
) -> None:
    # BLAS sums a whole file's spectrogram in another order than a window's: values differ in the last bit
    # (tests/test_mel.py), and int8 makes a time token's 0.02 s of that here and there.
    whole = reference.feature_extractor(samples_of(name) / np.float32(32768))

    def cut(window: Window, _: Any) -> npt.NDArray[np.float32]:
        first = window.offset // FRAME_SAMPLES
        return np.asarray(whole[:, first : first + window.length // FRAME_SAMPLES])

    monkeypatch.setattr("server.whisper.log_mel", cut)
    assert_equal(demo, reference, name, words)
