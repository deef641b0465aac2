"""The decoding state of one window: its prompt, and the rules by which a result is kept or retried.

The rules are openai/whisper's as faster-whisper applies them. No model here, no tensor operations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from server.options import MAX_PROMPT, DecodingOptions
from server.transcript import MAX_FRAMES, Window

MAX_LENGTH = 448  # tokens the decoder can hold; CTranslate2 lets half of them be new
HOTWORDS_ROOM = 64  # before a full prompt; leaves 158 tokens for the answer, where faster-whisper's 223 leave none


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens that the decoder is given as previous text; `own` of them are the caller's."""

    tokens: tuple[int, ...] = ()
    own: int = 0


def prompt_of(prompt: Sequence[int], hotwords: Sequence[int], previous: Sequence[int], bucket: int = 1) -> Prompt:
    """The beginning of the hotwords, then the end of the caller's prompt and of the text of earlier windows.

    Fewer distinct prompt lengths share more batches: the earlier text is cut to a multiple of `bucket` tokens; the
    caller's own prompt is never shortened for that.
    """
    previous = previous[-MAX_PROMPT:]
    previous = previous[len(previous) % bucket :]
    before = [*prompt, *previous][-MAX_PROMPT:]
    first = hotwords[: max(MAX_PROMPT - len(before), HOTWORDS_ROOM)]
    return Prompt((*first, *before), len(first) + len(before) - len(previous))


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """One decoding attempt of a window: its tokens, including timestamps, and its quality measures."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    temperature: float

    def is_silence(self, options: DecodingOptions) -> bool:
        """True if the model detected no speech and isn't confident of its text either.

        Noise that the voice activity detector lets through becomes "Thank you very much.", at an avg_logprob from
        -1.4 to -0.6 and a no_speech_prob from 0.4 to 0.95, which openai/whisper's thresholds keep. A text of a few
        words needs more evidence than they ask for; real ones, noisy or of one word, have it (docs/accuracy.md).
        """
        if len(self.tokens) < options.doubted_tokens:
            doubtful = self.avg_logprob <= options.doubted_logprob
            return doubtful and self.no_speech_prob > options.doubted_no_speech
        unsure = self.avg_logprob <= options.logprob_threshold
        return unsure and self.no_speech_prob > options.no_speech_threshold

    def is_repetitive(self, options: DecodingOptions) -> bool:
        return self.compression_ratio > options.compression_ratio_threshold

    def failed(self, options: DecodingOptions) -> bool:
        """True if the next temperature should be tried."""
        improbable = self.avg_logprob < options.logprob_threshold
        if improbable and (self.no_speech_prob > options.no_speech_threshold or self.is_silence(options)):
            return False  # sampling could only invent a longer text
        return improbable or self.is_repetitive(options)


@dataclass(eq=False, slots=True)
class WindowState:
    """The state of a window so far. Its encoder output is used for detection, every attempt and alignment.

    `frames` of 10 ms is the encoder's input, including silence after the window's end. `options.language` is
    set once the language is known; `decoded` once an attempt is kept. `emptied` was kept before, and had no text: a
    caller's prompt may be the cause, so the window is decoded without it. `align_tokens` are the text tokens to be
    aligned, `alignment` has the time and probability of each.
    """

    window: Window
    options: DecodingOptions
    frames: int = MAX_FRAMES
    prompt: Prompt = Prompt()
    encoded: Any = None
    language_probs: tuple[tuple[str, float], ...] = ()
    attempts: list[DecodingResult] = field(default_factory=list)
    decoded: DecodingResult | None = None
    emptied: DecodingResult | None = None
    align_tokens: tuple[int, ...] = ()
    alignment: Any = None

    @property
    def temperature(self) -> float:
        """Temperature of the next attempt."""
        return self.options.temperatures[len(self.attempts)]

    @property
    def encoded_bytes(self) -> int:
        return 0 if self.encoded is None else int(self.encoded.nbytes)

    def detect(self, probs: Sequence[tuple[str, float]]) -> None:
        """Set the language from a detection's result, best first, among the requested ones, if any is in it."""
        wanted = self.options.languages
        self.language_probs = tuple(p for p in probs if not wanted or p[0] in wanted) or tuple(probs)
        self.options = replace(self.options, language=self.language_probs[0][0])

    def add_attempt(self, decoded: DecodingResult) -> None:
        """Add an attempt and decide: keep it, or, once all have failed, the most probable one without repetition.

        The latter reports the last temperature. A failed attempt with less than the encoder's full window doesn't
        count: the window is encoded again.
        """
        if self.frames < MAX_FRAMES and (decoded.failed(self.options) or decoded.is_silence(self.options)):
            self.frames, self.encoded = MAX_FRAMES, None
            return
        self.attempts.append(decoded)
        if not decoded.failed(self.options):
            self.decoded = decoded
        elif len(self.attempts) == len(self.options.temperatures):
            candidates = [one for one in self.attempts if not one.is_repetitive(self.options)] or self.attempts
            best = max(candidates, key=lambda one: one.avg_logprob)
            self.decoded = replace(best, temperature=decoded.temperature)
        if self.decoded is not None:
            self._doubt_prompt(self.decoded)

    def _doubt_prompt(self, kept: DecodingResult) -> None:
        """If a caller's prompt leads to empty text, decode without it, and keep that if there is speech.

        A long or unsuitable prompt can end a decoding before its first word. Speech is detected without it.
        """
        if self.emptied is not None:
            if kept.no_speech_prob > self.options.no_speech_threshold:
                self.decoded = self.emptied
        elif self.prompt.own and not kept.text:
            self.emptied, self.decoded = kept, None
            self.prompt = Prompt((), self.prompt.own)
            self.attempts.clear()
