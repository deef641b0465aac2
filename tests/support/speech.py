"""Detectors of speech with scripted answers, and windows over noise of any loudness."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from server.audio.speech import (
    SpeechDetector,
    SpeechEnd,
    SpeechEvent,
    SpeechModel,
    SpeechStart,
)
from server.audio.windows import WindowPacker
from server.options import VadOptions
from server.transcript import SAMPLE_RATE, Span, Window

Samples = npt.NDArray[np.int16]


Floats = npt.NDArray[np.float32]


BLOCK = 10 * SAMPLE_RATE


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
