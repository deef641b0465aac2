"""The form fields of a transcription, described once for /openapi.json, /docs and docs/api.md.

`forms` knows how a field is read; a test compares the two.
"""

from dataclasses import dataclass

from server.api.openapi.declarations import Json
from server.options import (
    GRANULARITIES,
    MAX_BEAM_SIZE,
    MAX_CUE_S,
    MAX_LINE_COUNT,
    MAX_LINE_WIDTH,
    MAX_SPEAKERS,
    MAX_VAD_MS,
    MIN_MAX_CUE_S,
    RESPONSE_DIALECTS,
    RESPONSE_FORMATS,
    STREAM_EVENTS,
    SubtitleOptions,
    TranscriptionOptions,
)

TEXT: Json = {"type": "string"}
TEXTS: Json = {"type": "array", "items": TEXT}
FLAG: Json = {"type": "boolean"}
MILLISECONDS: Json = {"type": "integer", "minimum": 0, "maximum": MAX_VAD_MS}
DEFAULTS = TranscriptionOptions()
CUES = SubtitleOptions()


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name` as it appears in the form, a list's with its brackets; `description` in Markdown, on one line.

    `ours`: an extension of OpenAI's API. Without a default in the schema, the description gives it.
    """

    name: str
    schema: Json
    description: str
    required: bool = False
    ours: bool = False

    @property
    def text(self) -> str:
        """The description, and whether the field is an extension."""
        return f"{self.description}. Not OpenAI's" if self.ours else self.description

    @property
    def described_schema(self) -> Json:
        extension = {"x-sotto-extension": True} if self.ours else {}
        return {**self.schema, "description": f"{self.text}.", **extension}


PARAMETERS = (
    Parameter(
        "file",
        {"type": "string", "format": "binary"},
        "audio, or video with sound: flac, mp3, mp4, mpeg, mpga, m4a, ogg, opus, wav (NIST SPHERE's too), webm, "
        "aac and more. The format is detected from the content; file name and type are ignored",
        required=True,
    ),
    Parameter(
        "model",
        TEXT,
        "an installed model; or `whisper-1`, any `gpt-*transcribe*` id, or a cloud's id of a Whisper model that "
        "isn't installed, such as `whisper-large-v3`: these mean the default model",
        required=True,
    ),
    Parameter(
        "language",
        TEXT,
        "a code (`pt`), a tag (`pt-BR`) or a name (`portuguese`); absent or `auto`: detected",
    ),
    Parameter(
        "languages[]",
        TEXTS,
        "the possible languages, of which one is detected; a single one is the same as `language`. "
        "Can't be combined with `language`",
    ),
    Parameter("prompt", TEXT, "context or topic of the recording; only its last 223 tokens are used"),
    Parameter(
        "keywords[]",
        TEXTS,
        "words that may occur, such as names; each a single line without `<` and `>`. "
        "Their first 64 tokens are used, more if the prompt leaves space",
    ),
    Parameter(
        "response_format",
        {"type": "string", "enum": [*RESPONSE_FORMATS], "default": DEFAULTS.response_format},
        "`json`, `text`, `srt`, `vtt`, `verbose_json`; `diarized_json` is rejected: there is no diarization",
    ),
    Parameter(
        "temperature",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        "0 to 1. 0: beam search, retried at 0.2, 0.4 ... 1.0 where the result looks wrong. "
        "Above 0: that value alone",
    ),
    Parameter(
        "timestamp_granularities[]",
        {
            "type": "array",
            "items": {"type": "string", "enum": [*GRANULARITIES]},
            "default": [*DEFAULTS.granularities],
        },
        "`segment`, `word` or both, for `verbose_json`",
    ),
    Parameter(
        "stream",
        {"type": "boolean", "default": False},
        "`true`: the text comes as server-sent events while the recording is transcribed, whatever the format",
    ),
    Parameter(
        "include[]",
        {"type": "array", "items": {"const": "logprobs"}},
        "`logprobs`, for `json` and for streams: every token with its log probability",
    ),
    Parameter(
        "chunking_strategy",
        {
            "oneOf": [
                {"const": "auto"},
                {
                    "type": "object",
                    "required": ["type"],
                    "properties": {
                        "type": {"const": "server_vad"},
                        "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
                        "prefix_padding_ms": {**MILLISECONDS, "default": 300},
                        "silence_duration_ms": {**MILLISECONDS, "default": 200},
                    },
                },
            ]
        },
        "voice activity detection: `auto` (the default), or `server_vad` with `threshold`, `prefix_padding_ms`, "
        "`silence_duration_ms`",
    ),
    Parameter(
        "known_speaker_names[]",
        {**TEXTS, "maxItems": MAX_SPEAKERS},
        "accepted but ignored: there is no diarization",
    ),
    Parameter("known_speaker_references[]", {**TEXTS, "maxItems": MAX_SPEAKERS}, "the same"),
    Parameter(
        "stream_events[]",
        {"type": "array", "items": {"type": "string", "enum": [*STREAM_EVENTS]}},
        "additional events of a stream: `segments`, `progress`",
        ours=True,
    ),
    Parameter("hotwords", TEXT, "the same as `keywords[]`, as one string", ours=True),
    Parameter(
        "vad_filter",
        {"type": "boolean", "default": DEFAULTS.vad.enabled},
        "`false` treats the whole file as speech, whatever `chunking_strategy` says; "
        "expect hallucinated words in silence",
        ours=True,
    ),
    Parameter(
        "beam_size",
        {"type": "integer", "minimum": 1, "maximum": MAX_BEAM_SIZE},
        f"beam size at temperature 0, up to {MAX_BEAM_SIZE}; 1 is greedy decoding; absent: `SOTTO_BEAM_SIZE`",
        ours=True,
    ),
    Parameter("nested_words", FLAG, "`true` repeats the words inside each segment", ours=True),
    Parameter(
        "response_dialect",
        {"type": "string", "enum": [*RESPONSE_DIALECTS]},
        "`nested`: `verbose_json` has the language's code, and words only inside segments, with their "
        "punctuation; `openai`: as OpenAI's; absent: `SOTTO_RESPONSE_DIALECT`",
        ours=True,
    ),
    Parameter(
        "condition_on_previous_text",
        FLAG,
        "`true` decodes one window after another, each prompted with the text before it. "
        "Slower: one window at a time",
        ours=True,
    ),
    Parameter(
        "multilingual",
        {"type": "boolean", "default": False},
        "`true` detects the language of every window",
        ours=True,
    ),
    Parameter(
        "max_line_width",
        {"type": "integer", "minimum": 1, "maximum": MAX_LINE_WIDTH, "default": CUES.max_line_width},
        f"for `srt` and `vtt`: maximum width of a line, in columns; {CUES.max_line_width} if another of these four "
        "fields is sent. Without any of them each segment is a cue of one line",
        ours=True,
    ),
    Parameter(
        "max_line_count",
        {"type": "integer", "minimum": 1, "maximum": MAX_LINE_COUNT, "default": CUES.max_line_count},
        f"for `srt` and `vtt`: maximum lines of a cue; {CUES.max_line_count}",
        ours=True,
    ),
    Parameter(
        "min_cue_seconds",
        {"type": "number", "minimum": 0, "maximum": MAX_CUE_S, "default": CUES.min_cue_s},
        f"for `srt` and `vtt`: minimum duration of a cue, unless another follows sooner; {CUES.min_cue_s:g}",
        ours=True,
    ),
    Parameter(
        "max_cue_seconds",
        {"type": "number", "minimum": MIN_MAX_CUE_S, "maximum": MAX_CUE_S, "default": CUES.max_cue_s},
        f"for `srt` and `vtt`: maximum duration of a cue, unless it is a single word; {CUES.max_cue_s:g}",
        ours=True,
    ),
    Parameter(
        "keep_alive",
        TEXT,
        "how long the model stays loaded after its last request: seconds, `5m`, 0 (unload at once), -1 (forever); "
        "absent: `SOTTO_KEEP_ALIVE`. As in Ollama's API",
        ours=True,
    ),
)


def form() -> Json:
    """Return the request body of a transcription."""
    properties = {each.name: each.described_schema for each in PARAMETERS}
    required = [each.name for each in PARAMETERS if each.required]
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
