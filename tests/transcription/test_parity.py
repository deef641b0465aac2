"""Sequential mode against faster-whisper itself: the same segments, tokens, temperatures and word times.

Its spectrogram is of the whole file, ours of one window after the other.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from faster_whisper import WhisperModel

from server.audio.mel import loudest, mel_filters
from server.options import DecodingOptions, ModelOptions
from server.transcript import CONTEXT_SAMPLES, Span, Window, WindowResult, Word
from server.transcription.sequential import in_sequence
from server.whisper.model import Whisper
from server.whisper.results import joined
from tests.conftest import RECORDINGS, samples_of
from tests.support.reference import as_floats, reference_of
from tests.support.scripted import build
from tests.support.stepping import transcribe

pytestmark = pytest.mark.numeric

OPTIONS = DecodingOptions(temperatures=(0.0,), condition_on_previous_text=True)
Samples = npt.NDArray[np.int16]
Row = tuple[str, tuple[int, ...], int, float, float, float]
Said = tuple[str, float, float]


@pytest.fixture(scope="module")
def reference(demo_model: Path) -> WhisperModel:
    return reference_of(demo_model)


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


def rows_of_ours(model: Whisper, samples: Samples, options: DecodingOptions) -> tuple[list[Row], list[Said]]:
    rows, words = [], []
    for window, result in ours(model, samples, options):
        for one in result.segments:
            start, end = round(window.start_s + one.start, 2), round(window.start_s + one.end, 2)
            rows.append((one.text, one.tokens, round(window.start_s * 100), start, end, one.temperature))
            words += [said(word, window.start_s) for word in one.words or ()]
    return rows, words


def rows_of_theirs(model: WhisperModel, samples: Samples, words: bool) -> tuple[list[Row], list[Said]]:
    segments, info = model.transcribe(as_floats(samples), temperature=0.0, word_timestamps=words)
    rows, times = [], []
    for one in segments:
        start, end = round(float(one.start), 2), round(float(one.end), 2)
        rows.append((one.text, tuple(one.tokens), one.seek, start, end, one.temperature))
        times += [said(word, 0.0) for word in joined(map(asdict, one.words or ()), 0.0, info.language)]
    return rows, times


def said(word: Word, offset_s: float) -> Said:
    return word.word, round(offset_s + word.start, 2), round(offset_s + word.end, 2)


def assert_equal(model: Whisper, reference: WhisperModel, name: str, words: bool) -> None:
    samples = samples_of(name)
    mine = rows_of_ours(model, samples, replace(OPTIONS, word_timestamps=words))
    assert mine == rows_of_theirs(reference, samples, words)


QUICK = ["en_00.wav", "en_07.wav", "de_01.wav", "es_00.wav", "human_09.wav", "noisy_10db.flac", "lead_silence.flac"]
QUICK += ["long_pause.flac", "quiet.wav", "silence_10s.wav", "noise_10s.flac"]
LONG = ["german_45s.mp3", "noise_45s.ogg", "two_minutes.mp3", "ten_minutes.ogg"]
SHORT = [name for name in RECORDINGS if name not in {*QUICK, *LONG}]


def slow(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", [*QUICK, *slow(*SHORT)])
def test_short_recordings_give_the_text_of_faster_whisper(
    demo: Whisper, reference: WhisperModel, name: str, words: bool
) -> None:
    assert_equal(demo, reference, name, words)


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", [*LONG[:2], *slow(*LONG[2:])])
def test_long_recordings_give_the_text_of_faster_whisper(
    demo: Whisper, reference: WhisperModel, name: str, words: bool
) -> None:
    assert_equal(demo, reference, name, words)


@pytest.fixture(scope="module")
def random_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Whisper, WhisperModel]]:
    """A model of random weights, ours and theirs: it says all that a trained one hardly ever does."""
    path = build(tmp_path_factory.mktemp("random"))
    model = Whisper(path, ModelOptions(device="cpu", threads=1))
    yield model, reference_of(path)
    model.close()


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("name", [QUICK[0], LONG[0], *slow(*QUICK[1:], *LONG[1:])])
def test_random_weights_give_the_text_of_faster_whisper(
    random_pair: tuple[Whisper, WhisperModel], name: str, words: bool
) -> None:
    assert_equal(*random_pair, name, words)
