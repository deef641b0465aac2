"""The form fields of a transcription, described once: /openapi.json, /docs and the README's table all say this.

Says nothing of how a field is read; `forms` knows that, and a test holds the two together.
"""

from dataclasses import dataclass

from server.formats import Json
from server.options import GRANULARITIES, RESPONSE_FORMATS, TranscriptionOptions

TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
DEFAULTS = TranscriptionOptions()


@dataclass(frozen=True, slots=True)
class Parameter:
    """`name` as it stands in the form, a list's with its brackets; `description` in Markdown, of one line.

    `ours`: no field of OpenAI's. A schema without a default means what the description says.
    """

    name: str
    schema: Json
    description: str
    required: bool = False
    ours: bool = False

    @property
    def text(self) -> str:
        """The description, and whose field it is."""
        return f"{self.description}. Not OpenAI's" if self.ours else self.description


PARAMETERS = (
    Parameter(
        "file",
        {"type": "string", "format": "binary"},
        "audio, or video with sound: flac, mp3, mp4, mpeg, mpga, m4a, ogg, opus, wav, webm, aac and more. "
        "The content decides; name and type are ignored",
        required=True,
    ),
    Parameter(
        "model",
        TEXT,
        "the loaded model, or `whisper-1`, or any `gpt-*transcribe*` id: these mean the default model",
        required=True,
    ),
    Parameter(
        "language",
        TEXT,
        "a code (`pt`), a tag (`pt-BR`) or a name (`portuguese`); absent or `auto`: detected",
    ),
    Parameter("prompt", TEXT, "words or context the recording is about; its last 223 tokens count"),
    Parameter(
        "response_format",
        {"type": "string", "enum": [*RESPONSE_FORMATS], "default": DEFAULTS.response_format},
        "`json`, `text`, `srt`, `vtt`, `verbose_json`",
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
        "`true` is refused: this server does not stream yet",
    ),
    Parameter("nested_words", FLAG, "`true` repeats the words inside each segment", ours=True),
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
        "`true` detects the language anew for every stretch of speech",
        ours=True,
    ),
)
