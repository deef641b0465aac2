"""Log-mel spectrograms of windows, as openai/whisper makes them of whole files.

A window carries a few samples of what lies around it, so that its first and last frames are those of the file.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from server.transcript import FRAME_SAMPLES, MAX_WINDOW_S, SAMPLE_RATE, Window

N_FFT = 400  # samples: 25 ms
HALF = N_FFT // 2
MAX_FRAMES = int(MAX_WINDOW_S * SAMPLE_RATE) // FRAME_SAMPLES
FLOOR = 8.0  # log10 units below the loudest value that count as silence

Floats = npt.NDArray[np.float32]


def frames_of(window: Window) -> int:
    """Mel frames (10 ms) that `window` fills."""
    return window.length // FRAME_SAMPLES


def log_mel(window: Window, filters: Floats) -> Floats:
    """Features [mels, frames] of a window's samples; `filters` is [mels, 201].

    Values below `FLOOR` under the maximum are clamped: the maximum of the whole input where the window knows
    it, else its own (as faster-whisper's batched pipeline does).
    """
    audio = _framed_audio(window)
    frames = np.lib.stride_tricks.sliding_window_view(audio, N_FFT)[::FRAME_SAMPLES][: frames_of(window)]
    spectrum = np.fft.rfft(frames * _hann())
    power = np.square(np.abs(spectrum)).astype(np.float32).T
    log = np.log10(np.maximum(filters @ power, 1e-10))
    highest = log.max(initial=-10.0) if window.mel_max is None else window.mel_max
    features: Floats = (np.maximum(log, highest - FLOOR) + 4.0) / 4.0
    return features.astype(np.float32, copy=False)


def padded(features: Floats) -> Floats:
    """Features [mels, n] filled up with zeros to the 3000 frames that the model was trained on."""
    return np.pad(features, ((0, 0), (0, MAX_FRAMES - features.shape[1])))


def _framed_audio(window: Window) -> Floats:
    """The window's samples in [-1, 1) with half an FFT frame on each side: true context as far as it is known."""
    audio = np.frombuffer(window.samples, np.int16).astype(np.float32) / 32768.0
    before, after = HALF - window.lead, HALF - window.tail
    # Reflection before the first sample and silence behind the last is what Whisper does at a file's ends.
    return np.pad(np.pad(audio, (0, after)), (before, 0), mode="reflect")


@cache
def _hann() -> Floats:
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)
