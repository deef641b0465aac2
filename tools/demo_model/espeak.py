"""espeak-ng through its library, for the times of words and phonemes that its program does not tell."""

import ctypes
from ctypes import POINTER, c_char, c_char_p, c_int, c_short, c_uint, c_void_p
from typing import Any, NamedTuple

import numpy as np

from tools.demo_model.features import SAMPLE_RATE
from tools.demo_model.speech import Speech, resampled
from tools.demo_model.voices import Audio, Phone, Span

# Constants of espeak-ng's speak_lib.h.
SYNCHRONOUS = 2
PHONEME_EVENTS = 1
EVENT_LIST_TERMINATED, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
RATE, PITCH, RANGE, WORD_GAP = 1, 3, 4, 7
CHARS_UTF8 = 1
STRESS_AND_LENGTH_MARKS = "',%=*; _|"


class _Id(ctypes.Union):
    _fields_ = (("number", c_int), ("name", c_char_p), ("string", c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", c_int),
        ("unique_identifier", c_uint),
        ("text_position", c_int),
        ("length", c_int),
        ("audio_position", c_int),
        ("sample", c_int),
        ("user_data", c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(c_int, POINTER(c_short), c_int, POINTER(_Event))


class Manner(NamedTuple):
    """Words per minute, pitch and its range from 0 to 100, pause between words in 10 ms."""

    rate: int
    pitch: int
    pitch_range: int
    word_gap: int


class Espeak:
    """The library; there can be one in a process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self._rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, None, PHONEME_EVENTS)
        self._callback = _Callback(self._receive)  # kept: the library does not
        self._library.espeak_SetSynthCallback(self._callback)
        self._clear()

    def say(self, text: str, voice: str, manner: Manner) -> Speech:
        """Speak with a voice such as gmw/en-US+f2. Raises ValueError if there is none of that name."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        for parameter, value in zip((RATE, PITCH, RANGE, WORD_GAP), manner, strict=True):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._clear()
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        audio = resampled(np.concatenate(self._parts), self._rate)
        length_s = len(audio) / SAMPLE_RATE
        return Speech(audio, self._word_spans(text, length_s), self._phone_spans(length_s)).trimmed()

    def _clear(self) -> None:
        self._parts: list[Audio] = []
        self._words: list[tuple[int, float]] = []
        self._phones: list[tuple[str, float]] = []

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while (event := events[i]).type != EVENT_LIST_TERMINATED:
            time_s = event.audio_position / 1000
            if event.type == EVENT_WORD:
                self._words.append((event.text_position - 1, time_s))
            elif event.type == EVENT_PHONEME:
                self._phones.append((event.id.string.decode("utf8", "replace"), time_s))
            i += 1
        return 0

    def _word_spans(self, text: str, length_s: float) -> list[Span]:
        places = _places(text)
        starts: list[float | None] = [None] * len(places)
        for position, time_s in self._words:
            for i, (first, last) in enumerate(places):
                if first <= position < last and starts[i] is None:
                    starts[i] = time_s
        filled = _filled(starts, [last - first for first, last in places], length_s)
        return list(zip(filled, [*filled[1:], length_s], strict=True))

    def _phone_spans(self, length_s: float) -> list[Phone]:
        ends = [time_s for _, time_s in self._phones[1:]] + [length_s]
        return [
            (name.strip(STRESS_AND_LENGTH_MARKS), start, end)
            for (name, start), end in zip(self._phones, ends, strict=False)
        ]


def _places(text: str) -> list[tuple[int, int]]:
    """Where each whitespace word of the text begins and ends."""
    places, position = [], 0
    for word in text.split():
        first = text.index(word, position)
        position = first + len(word)
        places.append((first, position))
    return places


def _filled(starts: list[float | None], lengths: list[int], end_s: float) -> list[float]:
    """espeak-ng joins "in the" and the like into one event: share its time by the words' lengths."""
    filled = [starts[0] or 0.0]
    for i in range(1, len(starts)):
        start = starts[i]
        if start is None:
            known = next((k for k in range(i, len(starts)) if starts[k] is not None), len(starts))
            until = end_s if known == len(starts) else starts[known] or 0.0
            start = filled[-1] + (until - filled[-1]) * lengths[i - 1] / sum(lengths[i - 1 : known])
        filled.append(start)
    return filled
