"""Builds segments from decoder output: tokens to text, whole words in window time, log probabilities.

Reuses private parts of faster-whisper (hence the exact pin). Runs no model.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import Any

from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_compression_ratio

from server.audio.mel import frames_of
from server.options import DecodingOptions
from server.transcript import (
    FRAME_S,
    FRAME_SAMPLES,
    Segment,
    WindowResult,
    Word,
)
from server.whisper.decoding import DecodingResult, WindowState
from server.whisper.tokens import token_logprob

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # languages written without spaces between words
NO_LANGUAGE = "en"  # required by the tokenizer before a language is known; it has no effect then
# As faster-whisper's defaults: punctuation that belongs to the word after it, or to the one before.
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"


def joined(raw: Iterable[dict[str, Any]], clock_s: float, language: str) -> tuple[Word, ...]:
    """faster-whisper's words, with times relative to the window, `clock_s` subtracted. It splits at punctuation; in
    a language with spaces, "twenty" and "-three" are merged again."""
    words: list[Word] = []
    for one in raw:
        start, end = float(one["start"]) - clock_s, float(one["end"]) - clock_s
        word = Word(one["word"], start, end, float(one["probability"]))
        if words and language not in UNSPACED and not word.word.startswith(" "):
            begun = words.pop()
            probability = min(begun.probability, word.probability)
            word = Word(begun.word + word.word, begun.start, word.end, probability)
        words.append(word)
    return tuple(words)


def end_of(phrases: Sequence[Any]) -> float:
    """End of the last word, or else of the last phrase; as faster-whisper, even of one that is no segment."""
    ends = [word["end"] for phrase in phrases for word in phrase.get("words", ())]
    return float(ends[-1] if ends else phrases[-1]["end"])


class _Aligned:
    """Stands in for the CTranslate2 model when faster-whisper wants to align: returns the existing result."""

    def __init__(self, alignment: Any) -> None:
        self._alignment = alignment

    def align(self, *_: object, **__: object) -> list[Any]:
        return [self._alignment]


class SegmentBuilder:
    """Builds segments from the output of one model. Thread-safe."""

    def __init__(self, model: WhisperModel) -> None:
        self._model = model
        self.text = self.tokenizer(DecodingOptions())
        """A tokenizer for text only, in any language."""

    def tokenizer(self, options: DecodingOptions) -> Tokenizer:
        """The tokenizer for the language and task of `options`."""
        return Tokenizer(
            self._model.hf_tokenizer,
            self._model.model.is_multilingual,
            task=options.task,
            language=options.language or NO_LANGUAGE,
        )

    def decoded(self, result: Any, temperature: float) -> DecodingResult:
        """One decoding attempt, from CTranslate2's `result`."""
        tokens = tuple(result.sequences_ids[0])
        text = self.text.decode(list(tokens)).strip()
        return DecodingResult(
            tokens=tokens,
            text=text,
            # CTranslate2 averages over the tokens, openai/whisper over these and the end of text.
            avg_logprob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            compression_ratio=get_compression_ratio(text),
            no_speech_prob=result.no_speech_prob,
            temperature=temperature,
        )

    def align_tokens(self, state: WindowState) -> tuple[int, ...]:
        """The text tokens of the phrases that will be reported: the model may stop inside the window."""
        if state.decoded is None or state.decoded.is_silence(state.options):
            return ()
        phrases, _, _ = self._phrases(state, self.tokenizer(state.options))
        return tuple(token for phrase in phrases for token in self._text_tokens(phrase))

    def result(self, state: WindowState) -> WindowResult:
        """The segments of a decoded window, with words and logprobs if it is aligned for them."""
        window, decoded, options = state.window, state.decoded, state.options
        result = WindowResult(
            (),
            options.language or NO_LANGUAGE,
            window.length,
            state.language_probs,
            prompt_tokens=state.prompt.own,
        )
        if decoded is None or decoded.is_silence(options):
            return replace(result, silent=True)
        tokenizer = self.tokenizer(options)
        phrases, seek, closed = self._phrases(state, tokenizer)
        if state.alignment is not None and options.word_timestamps:
            self._add_words(phrases, tokenizer, state)
        if state.alignment is not None and options.token_logprobs:
            self._add_logprobs(phrases, state)
        segments = (self._segment(phrase, tokenizer, decoded, options) for phrase in phrases)
        return replace(
            result,
            # As openai/whisper: a phrase without text or duration is not a segment.
            segments=tuple(s for s in segments if s.text.strip() and s.start != s.end),
            consumed=window.length if seek >= frames_of(window) else seek * FRAME_SAMPLES,
            open_ended=not closed,
            temperature=decoded.temperature,
            words_end=end_of(phrases) if options.word_timestamps else None,
        )

    def _text_tokens(self, phrase: Any) -> list[int]:
        """A phrase's tokens without its timestamps."""
        return [token for token in phrase["tokens"] if token < self.text.eot]

    def _phrases(self, state: WindowState, tokenizer: Tokenizer) -> tuple[list[Any], int, bool]:
        """faster-whisper's segments between timestamps, in the clock of the options; the frame of the window that
        they reach; and True if the last of them is complete."""
        frames = frames_of(state.window)
        clock = round(state.options.clock_s / FRAME_S)
        phrases, seek, closed = self._model._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=list(state.decoded.tokens if state.decoded else ()),
            time_offset=state.options.clock_s,
            segment_size=frames,
            segment_duration=frames * FRAME_S,
            seek=clock,
        )
        return phrases, seek - clock, closed

    def _add_words(self, phrases: list[Any], tokenizer: Tokenizer, state: WindowState) -> None:
        """Add words to `phrases`. State that passes between windows is in the options, never in the model."""
        model = copy(self._model)
        model.model = _Aligned(state.alignment)
        model.add_word_timestamps(
            [phrases],
            tokenizer,
            None,
            frames_of(state.window),
            PREPENDED,
            APPENDED,
            last_speech_timestamp=state.options.last_speech_s,
        )

    def _add_logprobs(self, phrases: list[Any], state: WindowState) -> None:
        """Add to `phrases` the log probability of each text token, given the audio and the text before it."""
        entry_of = self._model.hf_tokenizer.id_to_token
        probabilities = state.alignment.text_token_probs
        scored = (
            token_logprob(entry_of(token) or "", probability)
            for token, probability in zip(state.align_tokens, probabilities, strict=True)
        )
        for phrase in phrases:
            phrase["logprobs"] = tuple(islice(scored, len(self._text_tokens(phrase))))

    def _segment(
        self, phrase: Any, tokenizer: Tokenizer, decoded: DecodingResult, options: DecodingOptions
    ) -> Segment:
        # For a phrase of punctuation only, faster-whisper returns no words: use an empty list.
        words = phrase.get("words", [] if options.word_timestamps else None)
        return Segment(
            id=0,
            seek=0,
            start=float(phrase["start"]) - options.clock_s,  # a numpy scalar where words were aligned
            end=float(phrase["end"]) - options.clock_s,
            text=tokenizer.decode(phrase["tokens"]),
            tokens=tuple(phrase["tokens"]),
            temperature=decoded.temperature,
            avg_logprob=decoded.avg_logprob,
            compression_ratio=decoded.compression_ratio,
            no_speech_prob=decoded.no_speech_prob,
            words=None if words is None else joined(words, options.clock_s, tokenizer.language_code),
            text_tokens=len(self._text_tokens(phrase)),
            logprobs=phrase.get("logprobs"),
        )
