"""One window on its way through a model: what prompts it, and the rules by which a decoding is kept or tried again.

The rules are openai/whisper's as faster-whisper applies them. No model here, no tensors looked into.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from server.options import MAX_PROMPT, DecodingOptions
from server.transcript import MAX_FRAMES, Window

MAX_LENGTH = 448  # tokens the decoder can hold; CTranslate2 lets half of them be new
HOTWORDS_ROOM = 64  # before a full prompt; 158 tokens are left to the answer. faster-whisper's 223 leave none


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens a decoder is given as text before the window's; `own` of them are the caller's."""

    tokens: tuple[int, ...] = ()
    own: int = 0


def prompt_of(prompt: Sequence[int], hotwords: Sequence[int], said: Sequence[int], bucket: int = 1) -> Prompt:
    """The beginning of the hotwords, then the end of the caller's prompt and of what was said in earlier windows.

    Prompts of few different lengths share more batches: what was said is cut to a multiple of `bucket` tokens, the
    caller's own is never shortened for that.
    """
    said = said[-MAX_PROMPT:]
    said = said[len(said) % bucket :]
    before = [*prompt, *said][-MAX_PROMPT:]
    first = hotwords[: max(MAX_PROMPT - len(before), HOTWORDS_ROOM)]
    return Prompt((*first, *before), len(first) + len(before) - len(said))


@dataclass(frozen=True, slots=True)
class DecodingResult:
    """One decoding of one window: its tokens, timestamps among them, and how good they look."""

    tokens: tuple[int, ...]
    text: str
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    temperature: float

    def is_silence(self, options: DecodingOptions) -> bool:
        """Whether the model heard no speech and isn't sure of its words either."""
        unsure = self.avg_logprob <= options.logprob_threshold
        return unsure and self.no_speech_prob > options.no_speech_threshold

    def is_repetitive(self, options: DecodingOptions) -> bool:
        return self.compression_ratio > options.compression_ratio_threshold

    def failed(self, options: DecodingOptions) -> bool:
        """Whether to try again at the next temperature."""
        improbable = self.avg_logprob < options.logprob_threshold
        if improbable and self.no_speech_prob > options.no_speech_threshold:
            return False
        return improbable or self.is_repetitive(options)


@dataclass(eq=False, slots=True)
class WindowState:
    """What is known of a window so far. Its encoder output serves detection, every try and alignment.

    `frames` of 10 ms are what the encoder sees, silence behind the window's end included. `options.language` is
    set once the language is known; `decoded` once a try is kept. `emptied` was kept before, and had no text: a
    caller's prompt may have made it so, and the window is decoded without. `align_tokens` are the text tokens that
    alignment is to place in time, `alignment` says where and how probable each is.
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
        """Of the next try."""
        return self.options.temperatures[len(self.attempts)]

    @property
    def encoded_bytes(self) -> int:
        return 0 if self.encoded is None else int(self.encoded.nbytes)

    def detect(self, probs: Sequence[tuple[str, float]]) -> None:
        """Take a detection's outcome, best first, for the language: among those that are wanted, if any is."""
        wanted = self.options.languages
        self.language_probs = tuple(p for p in probs if not wanted or p[0] in wanted) or tuple(probs)
        self.options = replace(self.options, language=self.language_probs[0][0])

    def add_attempt(self, decoded: DecodingResult) -> None:
        """Take a try and decide: keep it, or, once all have failed, the most probable that doesn't repeat itself.

        That one then reports the last temperature. What failed with less than the encoder's full window does not
        count: it is encoded again.
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
        """Where a caller's prompt leaves no text, decode without it, and keep that if there is speech then.

        A long or unfit prompt can end a decoding before its first word. What the sound holds is judged without it.
        """
        if self.emptied is not None:
            if kept.no_speech_prob > self.options.no_speech_threshold:
                self.decoded = self.emptied
        elif self.prompt.own and not kept.text:
            self.emptied, self.decoded = kept, None
            self.prompt = Prompt((), self.prompt.own)
            self.attempts.clear()
