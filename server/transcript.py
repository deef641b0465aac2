"""The values passed between rooms: windows of audio in, words and segments out.

Knows nothing of HTTP, models or files. Positions in audio are samples at 16 kHz; times are seconds.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2  # int16, native order
FRAME_SAMPLES = 160  # one mel frame: 10 ms
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
MAX_WINDOW_S = 30.0
MAX_FRAMES = int(MAX_WINDOW_S * SAMPLE_RATE) // FRAME_SAMPLES
CONTEXT_SAMPLES = 200  # half an STFT frame: what a window's first and last mel frame need outside it


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times (seconds) and the mean probability of its tokens.

    `word` keeps its leading space and its punctuation, as faster-whisper gives it.
    """

    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A text token, the natural log of its probability, and its UTF-8 bytes, which may be part of a character."""

    token: str
    logprob: float
    bytes: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """A phrase between two timestamp tokens, with openai/whisper's fields. `seek`: mel frames of 10 ms.

    `text_tokens` is how many of `tokens` are text; `logprobs` are theirs, if requested.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...] | None = None
    text_tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Samples `start` (included) to `end` (excluded) of a file."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Window:
    """The input of the model: at most 30 s of a file, made of spans with long silence cut out between.

    When sent to an engine it carries `samples`: int16 mono at 16 kHz, the spans one after another, with
    `lead` and `tail` samples of real context before and after them (each at most `CONTEXT_SAMPLES`).
    `mel_max` is the largest log-mel value of the whole input, if known: Whisper clamps to it. `is_rest`:
    the model has already transcribed the beginning of the original window.
    """

    index: int
    spans: tuple[Span, ...]
    mel_max: float | None = None
    samples: bytes = b""
    lead: int = 0
    tail: int = 0
    is_rest: bool = False

    @property
    def is_first(self) -> bool:
        """True if the model processes nothing of the file before it."""
        return self.index == 0 and not self.is_rest

    @property
    def offset(self) -> int:
        """First sample in the file."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """One past the last sample in the file."""
        return self.spans[-1].end

    @property
    def length(self) -> int:
        """Number of samples for the model, not counting cut silence."""
        return sum(len(span) for span in self.spans)

    @property
    def start_s(self) -> float:
        return self.offset / SAMPLE_RATE

    @property
    def duration_s(self) -> float:
        return self.length / SAMPLE_RATE

    def after(self, consumed: int) -> Self:
        """The rest of this window once its first `consumed` samples are transcribed, without samples."""
        rest: list[Span] = []
        for span in self.spans:
            if consumed < len(span):
                rest.append(Span(span.start + consumed, span.end))
                consumed = 0
            else:
                consumed -= len(span)
        return replace(self, spans=tuple(rest), samples=b"", lead=0, tail=0, is_rest=True)


@dataclass(frozen=True, slots=True)
class WindowResult:
    """The model's result for one window. Times and `seek` of segments are relative to the window.

    `consumed` is the number of samples that the segments account for: if it is less than the window,
    the model stopped inside it and the rest must be submitted again (`Window.after`).
    `language_probs` is the detection's outcome, best first; empty if the language was given. `silent`: the
    model detected no speech. `open_ended`: its last segment has no end. `temperature` is that of the kept attempt.
    `words_end`, by the clock of the options, is the end of the last word, or of the last phrase if there is none:
    only if words were requested.
    `prompt_tokens` of the caller's preceded it: prompt and hotwords, without Whisper's own markers. `ran_s` is
    the time from its first batch to its last.
    """

    segments: tuple[Segment, ...]
    language: str
    consumed: int
    language_probs: tuple[tuple[str, float], ...] = ()
    silent: bool = False
    open_ended: bool = False
    temperature: float = 0.0
    words_end: float | None = None
    prompt_tokens: int = 0
    ran_s: float = field(default=0.0, compare=False)


Task = Literal["transcribe", "translate"]


@dataclass(frozen=True, slots=True)
class Transcript:
    """A finished transcription, in file time. `duration_s` is counted, never read from a header.

    `prompt_tokens`: the number of tokens in the caller's prompt and hotwords, as every window saw them.
    """

    task: Task
    language: str
    language_probability: float | None
    duration_s: float
    segments: tuple[Segment, ...]
    prompt_tokens: int = 0

    @property
    def text(self) -> str:
        """The segments' texts, joined and trimmed, as OpenAI reports it."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words or ())
