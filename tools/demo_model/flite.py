"""flite through its library, for the times of words and phonemes that its program does not tell."""

import ctypes
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_float, c_int, c_short, c_void_p

import numpy as np
from numpy.typing import NDArray

from tools.demo_model.speech import Speech, SpokenWord, match_words, radio_phones, resampled

WORD_START = b"R:SylStructure.daughter.daughter.R:Segment.p.end"
WORD_END = b"R:SylStructure.daughtern.daughtern.R:Segment.end"

# Where flite's structs keep what is read here: cst_voice.features, and cst_wave's numbers and samples.
VOICE_FEATURES = 1
WAVE_RATE, WAVE_COUNT = 2, 3
WAVE_SAMPLES_BYTES = 24

POINTER_RESULTS = ("flite_synth_text", "utt_relation", "relation_head", "item_next", "utt_wave")
ARGUMENTS = {
    "flite_synth_text": [c_char_p, c_void_p],
    "utt_relation": [c_void_p, c_char_p],
    "relation_head": [c_void_p],
    "item_next": [c_void_p],
    "utt_wave": [c_void_p],
    "delete_utterance": [c_void_p],
    "flite_ffeature_float": [c_void_p, c_char_p],
    "flite_ffeature_string": [c_void_p, c_char_p],
    "flite_feat_set_float": [c_void_p, c_char_p, c_float],
}


class Flite:
    """The library, with the voices asked for so far."""

    def __init__(self) -> None:
        self._library = _load("libflite.so.1")
        for name in ("libflite_cmulex.so.1", "libflite_usenglish.so.1"):
            _load(name)
        self._library.flite_init()
        for name in POINTER_RESULTS:
            getattr(self._library, name).restype = c_void_p
        self._library.flite_ffeature_float.restype = c_float
        self._library.flite_ffeature_string.restype = c_char_p
        for name, arguments in ARGUMENTS.items():
            getattr(self._library, name).argtypes = arguments
        self._voices: dict[str, int] = {}

    def say(self, text: str, voice: str, stretch: float, pitch_hz: float | None) -> Speech:
        """Speak with a voice such as cmu_us_slt, slower by `stretch`; None keeps the voice's pitch."""
        library, registered = self._library, self._voice(voice)
        features = ctypes.cast(registered, POINTER(c_void_p))[VOICE_FEATURES]
        library.flite_feat_set_float(features, b"duration_stretch", stretch)
        if pitch_hz:
            library.flite_feat_set_float(features, b"int_f0_target_mean", pitch_hz)
        utterance = library.flite_synth_text(text.encode(), registered)
        words = [self._word(item) for item in self._items(utterance, b"Word")]
        phones = radio_phones(
            (self._string(item, b"name"), library.flite_ffeature_float(item, b"end"))
            for item in self._items(utterance, b"Segment")
        )
        samples, rate = _samples(library.utt_wave(utterance))
        library.delete_utterance(utterance)
        return Speech(resampled(samples, rate), match_words(text, words), phones).trimmed()

    def _voice(self, name: str) -> int:
        if name not in self._voices:
            register = getattr(_load(f"libflite_{name}.so.1"), "register_" + name)
            register.restype, register.argtypes = c_void_p, [c_void_p]
            self._voices[name] = register(None)
        return self._voices[name]

    def _items(self, utterance: int, relation: bytes) -> Iterator[int]:
        item = self._library.relation_head(self._library.utt_relation(utterance, relation))
        while item:
            yield item
            item = self._library.item_next(item)

    def _word(self, item: int) -> SpokenWord:
        time = self._library.flite_ffeature_float
        return self._string(item, b"name"), time(item, WORD_START), time(item, WORD_END)

    def _string(self, item: int, feature: bytes) -> str:
        value: bytes = self._library.flite_ffeature_string(item, feature)
        return value.decode()


def _load(name: str) -> ctypes.CDLL:
    return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)


def _samples(wave: int) -> tuple[NDArray[np.int16], int]:
    numbers = ctypes.cast(wave, POINTER(c_int))
    samples = ctypes.cast(wave + WAVE_SAMPLES_BYTES, POINTER(POINTER(c_short)))[0]
    return np.ctypeslib.as_array(samples, (numbers[WAVE_COUNT],)).copy(), numbers[WAVE_RATE]
