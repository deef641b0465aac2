"""Log-mel features as Whisper computes them, on tensors; knows nothing of files or text."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

SAMPLE_RATE = 16_000
N_FFT = 400
HOP_LENGTH = 160
N_MELS = 80
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH
TOKENS_PER_SECOND = FRAMES_PER_SECOND // 2
"""Encoder positions, and steps of timestamp tokens, in a second."""

# Slaney's mel scale: linear below 1 kHz, logarithmic above.
BREAK_HZ = 1000
BREAK_MEL = 15


def log_mel(audio: Tensor) -> Tensor:
    """Return the log10 power mel spectrum, not yet normalised, of samples along the last axis."""
    spectrum = torch.stft(audio, N_FFT, HOP_LENGTH, window=WINDOW, center=True, return_complex=True)[..., :-1]
    power = spectrum.real**2 + spectrum.imag**2
    return (FILTERS @ power).clamp(min=1e-10).log10()


def normalized(mel: Tensor, peak: Tensor) -> Tensor:
    """Return the spectrum cut 80 dB below the peak and scaled, as Whisper's encoder expects it."""
    return (torch.maximum(mel, peak - 8) + 4) / 4


def mel_filters() -> NDArray[np.float32]:
    """Return Slaney's mel filter bank: bands by frequency bins."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(_hz_to_mel(0), _hz_to_mel(SAMPLE_RATE / 2), N_MELS + 2))
    widths = np.diff(edges)
    ramps = edges[:, None] - frequencies[None]
    triangles = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def _hz_to_mel(hz: ArrayLike) -> NDArray[np.float64]:
    hz = np.asarray(hz, float)
    above = BREAK_MEL + np.log(np.maximum(hz, 1e-9) / BREAK_HZ) * 27 / np.log(6.4)
    return np.where(hz < BREAK_HZ, hz * 3 / 200, above)


def _mel_to_hz(mel: ArrayLike) -> NDArray[np.float64]:
    mel = np.asarray(mel, float)
    above = BREAK_HZ * np.exp((mel - BREAK_MEL) * np.log(6.4) / 27)
    return np.where(mel < BREAK_MEL, mel * 200 / 3, above)


FILTERS = torch.from_numpy(mel_filters())
WINDOW = torch.hann_window(N_FFT)
