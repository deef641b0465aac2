"""Loud and quiet frames of a window: where speech begins and ends, to 10 ms, finer than a model's timestamps."""

import numpy as np
import numpy.typing as npt

from server.transcript import FRAME_SAMPLES, Window

Frames = npt.NDArray[np.bool_]

PRE_EMPHASIS = 0.97  # consonants begin words, and hum lies below them
SMOOTH_FRAMES = 3
FLOOR_PERCENTILE, SPEECH_PERCENTILE = 5, 95
MIN_RANGE_DB = 12  # between floor and speech; with less, quiet and speech can't be distinguished
MAX_RANGE_DB = 50  # digital silence is no noise floor
LOUD_SHARE = 0.2  # of the range above the floor
MIN_LOUD, MIN_QUIET = 3, 8  # frames: shorter runs are clicks, and closures of plosives


def loud_frames(window: Window) -> Frames:
    """True for each 10 ms frame of a loaded window in which there is sound well above its noise floor.

    All frames are loud where floor and speech can't be distinguished. A last partial frame is left out.
    """
    levels = _levels_db(np.frombuffer(window.samples, np.int16)[window.lead :][: window.length])
    if not len(levels):
        return np.zeros(0, np.bool_)
    floor, speech = np.percentile(levels, (FLOOR_PERCENTILE, SPEECH_PERCENTILE))
    floor = max(floor, speech - MAX_RANGE_DB)
    if speech - floor < MIN_RANGE_DB:
        return np.ones(len(levels), np.bool_)
    loud = levels > floor + LOUD_SHARE * (speech - floor)
    return ~_without_short_runs(~_without_short_runs(loud, MIN_LOUD), MIN_QUIET)


def _levels_db(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """The level of each whole frame in dB, averaged with its neighbours."""
    count = len(samples) // FRAME_SAMPLES
    sound = samples[: count * FRAME_SAMPLES].astype(np.float32)
    sound[1:] -= PRE_EMPHASIS * sound[:-1].copy()
    power = np.square(sound).reshape(count, FRAME_SAMPLES).mean(axis=1)
    padded = np.pad(power, SMOOTH_FRAMES // 2, mode="edge") if count else power
    smooth = np.convolve(padded, np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES), mode="valid") if count else power
    return (10 * np.log10(smooth + 0.1)).astype(np.float32)


def _without_short_runs(frames: Frames, shortest: int) -> Frames:
    """The same with runs of True shorter than `shortest` set to False."""
    edges = np.flatnonzero(np.diff(frames, prepend=False, append=False)).reshape(-1, 2)
    kept = np.zeros_like(frames)
    for start, end in edges:
        kept[start:end] = end - start >= shortest
    return kept
