"""Log-mel spectrograms of windows, computed as openai/whisper does for whole files.

A window carries a few samples of context on each side, so that its first and last frames equal those of the file.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from server.transcript import FRAME_SAMPLES, SAMPLE_RATE, Window

N_FFT = 400  # samples: 25 ms
HALF = N_FFT // 2
LOWEST = -10.0  # log10 of the smallest value that is distinguished
FLOOR = 8.0  # log10 units below the loudest value that count as silence

Floats = npt.NDArray[np.float32]


def frames_of(window: Window) -> int:
    """Number of mel frames (10 ms) that `window` fills."""
    return window.length // FRAME_SAMPLES


def log_mel(window: Window, filters: Floats) -> Floats:
    """Features [mels, frames] of a window's samples; `filters` is [mels, 201].

    Values more than `FLOOR` below the maximum are clamped: the maximum of the whole input if the window has
    it, else its own (as faster-whisper's batched pipeline does).
    """
    log = _log(window, filters)
    highest = log.max(initial=LOWEST) if window.mel_max is None else window.mel_max
    return ((np.maximum(log, highest - FLOOR) + 4.0) / 4.0).astype(np.float32, copy=False)


@cache
def mel_filters(mels: int) -> Floats:
    """Triangular filters [mels, 201] of equal area on Slaney's mel scale: linear to 1 kHz, logarithmic above."""
    hz = _slaney_hz(np.linspace(0.0, _TOP_MEL, mels + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, HALF + 1)
    rising = (bins - hz[:-2, None]) / (hz[1:-1] - hz[:-2])[:, None]
    falling = (hz[2:, None] - bins) / (hz[2:] - hz[1:-1])[:, None]
    triangles = np.maximum(np.minimum(rising, falling), 0.0)
    return (triangles * (2.0 / (hz[2:] - hz[:-2]))[:, None]).astype(np.float32)


_LINEAR_HZ, _LOG_FROM_MEL, _LOG_STEP = 200.0 / 3, 15.0, np.log(6.4) / 27.0
_TOP_MEL = 45.245640471924965  # 8 kHz


def _slaney_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = np.maximum(mel - _LOG_FROM_MEL, 0.0)
    hz: npt.NDArray[np.float64] = np.minimum(mel, _LOG_FROM_MEL) * _LINEAR_HZ * np.exp(_LOG_STEP * above)
    return hz


def loudest(window: Window, filters: Floats) -> float:
    """The largest log-mel value of a window."""
    return float(_log(window, filters).max(initial=LOWEST))


def _log(window: Window, filters: Floats) -> Floats:
    audio = _framed_audio(window)
    frames = np.lib.stride_tricks.sliding_window_view(audio, N_FFT)[::FRAME_SAMPLES][: frames_of(window)]
    spectrum = np.fft.rfft(frames * _hann())
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    energies = _filtered(np.ascontiguousarray(power.T), filters)
    log: Floats = np.log10(np.maximum(energies, np.float32(10.0**LOWEST)))
    return log


def _filtered(power: Floats, filters: Floats) -> Floats:
    """The matrix product of `filters` [mels, bins] and `power` [bins, frames], each sum from the lowest bin up.

    BLAS orders its sums by the number of its threads and of the frames. That changes the last bits, which in noise
    can decide a timestamp or a language: a recording's text must depend on neither. Few filters overlap at any bin
    (two, if triangular), so this is no slower.
    """
    energies = np.zeros((len(filters), power.shape[1]), np.float32)
    takes = filters != 0
    first, end = takes.argmax(axis=0), len(filters) - takes[::-1].argmax(axis=0)
    for row in np.flatnonzero(takes.any(axis=0)):
        bands = slice(first[row], end[row])
        energies[bands] += filters[bands, row, None] * power[row]
    return energies


def padded(features: Floats, frames: int) -> Floats:
    """Features [mels, n] padded with zeros to `frames`."""
    return np.pad(features, ((0, 0), (0, frames - features.shape[1])))


def _framed_audio(window: Window) -> Floats:
    """The window's samples in [-1, 1) with half an FFT frame on each side: real context as far as it is known."""
    audio = np.frombuffer(window.samples, np.int16).astype(np.float32) / 32768.0
    before, after = HALF - window.lead, HALF - window.tail
    # At the ends of a file Whisper reflects before the first sample and pads with silence after the last.
    return np.pad(np.pad(audio, (0, after)), (before, 0), mode="reflect")


@cache
def _hann() -> Floats:
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)
