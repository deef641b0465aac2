"""The types of the JSON that a transcription answers with, from which the OpenAPI document has its schemas.

Checked by mypy only: an answer is a plain dict. `TypedDict` is that of typing_extensions, since pydantic reads
typing's on Python 3.12 and later only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Ge
from typing_extensions import TypedDict


@dataclass(frozen=True, slots=True)
class Doc:
    """The description of a member, in Markdown, on one line; metadata of its annotation."""

    text: str

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """Add the description to the member's schema. Called by pydantic, which is not imported for this."""
        return {**handler(core_schema), "description": self.text}


Seconds = Annotated[float, Ge(0), Doc("seconds")]


class TranscriptionWord(TypedDict):
    """A word without the spaces and the punctuation around it; in the nested dialect with the latter."""

    word: str
    start: Seconds
    end: Seconds
    probability: Annotated[float, Doc("mean of its tokens'. Not OpenAI's")]


class TranscriptionSegment(TypedDict):
    """A phrase between two timestamps of the model's."""

    id: Annotated[int, Doc("counted from 0")]
    seek: Annotated[int, Doc("where its window begins, in frames of 10 ms")]
    start: Seconds
    end: Seconds
    text: Annotated[str, Doc("with its leading space")]
    tokens: Annotated[list[int], Doc("both timestamps' too")]
    temperature: Annotated[float, Doc("the one that was kept: 0, unless an attempt had to be repeated")]
    avg_logprob: Annotated[float, Doc("below -1: doubtful")]
    compression_ratio: Annotated[float, Doc("above 2.4: it repeats itself")]
    no_speech_prob: Annotated[float, Doc("above 0.6, with a low `avg_logprob`: silence")]
    words: NotRequired[Annotated[list[TranscriptionWord], Doc("where they are requested. Not OpenAI's")]]


class Logprob(TypedDict):
    """A token of the text."""

    token: str
    logprob: Annotated[float, Doc("natural logarithm of its probability")]
    bytes: Annotated[list[int], Doc("its UTF-8; a token may be part of a character")]


class Language(TypedDict):
    """A language that was detected."""

    code: str


class DurationUsage(TypedDict):
    """The usage of Whisper's ids."""

    type: Literal["duration"]
    seconds: Annotated[int, Doc("rounded up")]


class InputTokenDetails(TypedDict):
    text_tokens: Annotated[int, Doc("of the prompt and the hotwords")]
    audio_tokens: Annotated[int, Doc("ten for a second")]


class TokenUsage(TypedDict):
    """The usage of `gpt-*` ids."""

    type: Literal["tokens"]
    input_tokens: int
    input_token_details: InputTokenDetails
    output_tokens: Annotated[int, Doc("of the text")]
    total_tokens: int


Logprobs = Annotated[list[Logprob], Doc("where `include[]` requests them")]


class JsonTranslation(TypedDict):
    """A translation in `json`."""

    text: str
    logprobs: NotRequired[Logprobs]


class TranscribedText(JsonTranslation):
    languages: NotRequired[
        Annotated[list[Language], Doc("of `gpt-transcribe`, and where `languages[]` names some")]
    ]


class JsonTranscription(TranscribedText):
    """The answer in `json`."""

    usage: DurationUsage | TokenUsage


class VerboseAnswer(TypedDict):
    language: Annotated[str, Doc("the text's, by its English name in lower case; in the nested dialect its code")]
    language_code: Annotated[str, Doc("`en`. Not OpenAI's")]
    duration: Seconds
    text: Annotated[str, Doc("the segments' texts joined and trimmed")]
    segments: NotRequired[Annotated[list[TranscriptionSegment], Doc("unless `word` is the only granularity")]]
    words: NotRequired[Annotated[list[TranscriptionWord], Doc("where `word` is one")]]


class VerboseTranscription(VerboseAnswer):
    """The answer in `verbose_json`."""

    task: Literal["transcribe"]
    usage: DurationUsage


class VerboseTranslation(VerboseAnswer):
    """A translation in `verbose_json`."""

    task: Literal["translate"]


Answer = JsonTranscription | JsonTranslation | VerboseTranscription | VerboseTranslation


class TextDelta(TypedDict):
    """The text of one more segment; joined, the deltas are the text."""

    type: Literal["transcript.text.delta"]
    delta: str
    logprobs: NotRequired[Logprobs]


class TextDone(TranscribedText):
    """The end."""

    type: Literal["transcript.text.done"]
    usage: NotRequired[Annotated[TokenUsage, Doc("of `gpt-*` ids")]]


class SegmentEvent(TranscriptionSegment):
    """A finished segment, where `stream_events[]` asks for `segments`. Not OpenAI's."""

    type: Literal["sotto.segment"]


class ProgressEvent(TypedDict):
    """Progress, where `stream_events[]` asks for `progress`. Not OpenAI's."""

    type: Literal["sotto.progress"]
    done_s: Seconds
    total_hint_s: NotRequired[Annotated[float, Ge(0), Doc("seconds that the file claims to hold")]]
    queue_position: Annotated[int, Doc("requests before this one")]
    language: NotRequired[Annotated[str, Doc("the recording's, as a code, from the first segment on")]]


TextEvent = TextDelta | TextDone | SegmentEvent | ProgressEvent
