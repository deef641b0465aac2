"""Options of a request and of a model, as frozen dataclasses: created and validated once at the edge,
trusted afterwards."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from server.transcript import MAX_WINDOW_S, Task

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
ResponseDialect = Literal["openai", "nested"]
Granularity = Literal["segment", "word"]
StreamEvent = Literal["segments", "progress"]
Priority = Literal["interactive", "bulk"]

RESPONSE_FORMATS: tuple[ResponseFormat, ...] = get_args(ResponseFormat)
SUBTITLE_FORMATS: tuple[ResponseFormat, ...] = ("srt", "vtt")
RESPONSE_DIALECTS: tuple[ResponseDialect, ...] = get_args(ResponseDialect)
GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
STREAM_EVENTS: tuple[StreamEvent, ...] = get_args(StreamEvent)

MAX_PROMPT = 223  # tokens of previous text: half of the decoder's 448, less one
MAX_BEAM_SIZE = 20
INTERACTIVE_S = 60.0  # a request known to be at most this long has priority over bulk
MAX_SPEAKERS = 4
MAX_VAD_MS = 60_000
MAX_LINE_WIDTH = 200
MAX_LINE_COUNT = 5
MAX_CUE_S = 30.0
MIN_MAX_CUE_S = 0.1
FALLBACK_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True, slots=True)
class VadOptions:
    """Voice activity detection. Off (`enabled=False`) the whole file counts as speech."""

    enabled: bool = True
    threshold: float = 0.5
    prefix_padding_ms: int = 400
    silence_duration_ms: int = 160
    window_s: float = MAX_WINDOW_S


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How the model decodes a window; the defaults are openai/whisper's and faster-whisper's.

    With `language` None it is detected, among `languages` if any are given: once for the file, or for each
    window if `multilingual`. `temperatures` is the fallback sequence. `prompt` precedes each window as
    previous text; its last 223 tokens are used. `token_logprobs` come from alignment, as word times do.

    With `condition_on_previous_text` windows are processed in order, and each passes state to the next:
    `previous_tokens`, the duration of the audio before it (`clock_s`) and the end of its last word.
    """

    task: Task = "transcribe"
    language: str | None = None
    languages: tuple[str, ...] = ()
    multilingual: bool = False
    prompt: str = ""
    hotwords: str = ""
    beam_size: int = 5
    best_of: int = 5
    patience: float = 1.0
    temperatures: tuple[float, ...] = FALLBACK_TEMPERATURES
    compression_ratio_threshold: float = 2.4
    logprob_threshold: float = -1.0
    no_speech_threshold: float = 0.6
    word_timestamps: bool = False
    token_logprobs: bool = False
    condition_on_previous_text: bool = False
    previous_tokens: tuple[int, ...] = ()
    clock_s: float = 0.0
    last_speech_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SubtitleOptions:
    """The shape of subtitle cues, if requested: maximum columns per line, lines per cue, and shortest and longest
    duration."""

    max_line_width: int = 42
    max_line_count: int = 2
    min_cue_s: float = 1.0
    max_cue_s: float = 7.0

    @property
    def min_cue_ms(self) -> int:
        return round(self.min_cue_s * 1000)

    @property
    def max_cue_ms(self) -> int:
        return round(self.max_cue_s * 1000)


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """One request as sent by the client, with defaults filled in. An empty `model` means the server's default.

    `response_dialect` is the shape of verbose_json: in the nested one `language` is a code, and words are inside
    their segments, with their punctuation, also in a stream; `nested_words` repeats them at the top level in
    OpenAI's shape.

    With `stream` results are sent as events as they come; `stream_events` are those sent beyond OpenAI's.

    `subtitles` shapes the cues of srt and vtt by their words; without it each segment is a cue. `keep_alive_s` is
    how long the model stays loaded afterwards, if the request sets it.
    """

    model: str = ""
    response_format: ResponseFormat = "json"
    response_dialect: ResponseDialect = "openai"
    granularities: frozenset[Granularity] = frozenset({"segment"})
    nested_words: bool = False
    stream: bool = False
    stream_events: frozenset[StreamEvent] = frozenset()
    subtitles: SubtitleOptions | None = None
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    vad: VadOptions = field(default_factory=VadOptions)
    keep_alive_s: float | None = None

    @property
    def counts_tokens(self) -> bool:
        """True if usage is reported in tokens, as for the cloud's `gpt-*` models; else in seconds."""
        return self.model.casefold().startswith("gpt-")

    @property
    def reports_languages(self) -> bool:
        """True if `json` reports the detected language, as the cloud's `gpt-transcribe` does; also for streams
        that report segments."""
        has_segments = self.stream and "segments" in self.stream_events
        return has_segments or bool(self.decoding.languages) or self.model.casefold().startswith("gpt-transcribe")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model is loaded and run. None selects a default that suits the device.

    `device` is auto, cpu, cuda or cuda:N, `compute_type` auto or one of CTranslate2's. `workers` batches run at the
    same time, with `threads` CPU threads each. Previous text is cut to a multiple of `prompt_bucket` tokens.
    `dynamic_context` lets the encoder see less than 30 s if a window is shorter: for models trained
    for it. `batch` and `bulk_batch` count windows; `beam_size` is what most requests use. `cache_bytes` limits
    encoder outputs of windows that wait for another step.
    """

    device: str = "auto"
    compute_type: str = "auto"
    threads: int | None = None
    workers: int | None = None
    prompt_bucket: int = 1
    dynamic_context: bool = False
    tune_allocator: bool = True
    batch: int | None = None
    bulk_batch: int | None = None
    beam_size: int = 5
    cache_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class UploadFd:
    """A complete upload on disk: an open, seekable descriptor, closed by its creator. The name is a hint."""

    fd: int
    size: int
    name_hint: str = ""


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """Options of a scan: maximum duration `limit_s`; number of mel bands for `mel_max`, 0 for none."""

    vad: VadOptions
    limit_s: float
    mels: int = 0
