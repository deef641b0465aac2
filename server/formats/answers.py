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
    """A word without spaces and punctuation around it; in the nested dialect with its punctuation."""

    word: str
    start: Seconds
    end: Seconds
    probability: Annotated[float, Doc("mean probability of its tokens. Not OpenAI's")]


class TranscriptionSegment(TypedDict):
    """A phrase between two timestamps of the model."""

    id: Annotated[int, Doc("counted from 0")]
    seek: Annotated[int, Doc("start of its window, in frames of 10 ms")]
    start: Seconds
    end: Seconds
    text: Annotated[str, Doc("with its leading space")]
    tokens: Annotated[list[int], Doc("including both timestamps")]
    temperature: Annotated[float, Doc("of the accepted attempt: 0, unless it had to be repeated")]
    avg_logprob: Annotated[float, Doc("below -1: unreliable")]
    compression_ratio: Annotated[float, Doc("above 2.4: it repeats itself")]
    no_speech_prob: Annotated[float, Doc("above 0.6, with a low `avg_logprob`: silence")]
    words: NotRequired[Annotated[list[TranscriptionWord], Doc("if requested. Not OpenAI's")]]


class Logprob(TypedDict):
    """A token of the text."""

    token: str
    logprob: Annotated[float, Doc("natural logarithm of its probability")]
    bytes: Annotated[list[int], Doc("as UTF-8; a token may be part of a character")]


class Language(TypedDict):
    """A detected language."""

    code: str


class DurationUsage(TypedDict):
    """Usage for Whisper's ids."""

    type: Literal["duration"]
    seconds: Annotated[int, Doc("rounded up")]


class InputTokenDetails(TypedDict):
    text_tokens: Annotated[int, Doc("of the prompt and the hotwords")]
    audio_tokens: Annotated[int, Doc("ten per second")]


class TokenUsage(TypedDict):
    """Usage for `gpt-*` ids."""

    type: Literal["tokens"]
    input_tokens: int
    input_token_details: InputTokenDetails
    output_tokens: Annotated[int, Doc("of the text")]
    total_tokens: int


Logprobs = Annotated[list[Logprob], Doc("if `include[]` requests them")]


class JsonTranslation(TypedDict):
    """A translation in `json`."""

    text: str
    logprobs: NotRequired[Logprobs]


class TranscribedText(JsonTranslation):
    languages: NotRequired[Annotated[list[Language], Doc("for `gpt-transcribe`, and if `languages[]` is sent")]]


class JsonTranscription(TranscribedText):
    """The response in `json`."""

    usage: DurationUsage | TokenUsage


class VerboseAnswer(TypedDict):
    language: Annotated[str, Doc("the language's English name, in lower case; in the nested dialect its code")]
    language_code: Annotated[str, Doc("`en`. Not OpenAI's")]
    duration: Seconds
    text: Annotated[str, Doc("the segments' texts joined and trimmed")]
    segments: NotRequired[Annotated[list[TranscriptionSegment], Doc("unless `word` is the only granularity")]]
    words: NotRequired[Annotated[list[TranscriptionWord], Doc("if `word` is one of the granularities")]]


class VerboseTranscription(VerboseAnswer):
    """The response in `verbose_json`."""

    task: Literal["transcribe"]
    usage: DurationUsage


class VerboseTranslation(VerboseAnswer):
    """A translation in `verbose_json`."""

    task: Literal["translate"]


Answer = JsonTranscription | JsonTranslation | VerboseTranscription | VerboseTranslation


class TextDelta(TypedDict):
    """The text of one segment; the joined deltas are the whole text."""

    type: Literal["transcript.text.delta"]
    delta: str
    logprobs: NotRequired[Logprobs]


class TextDone(TranscribedText):
    """The end of the stream."""

    type: Literal["transcript.text.done"]
    usage: NotRequired[Annotated[TokenUsage, Doc("for `gpt-*` ids")]]


class SegmentEvent(TranscriptionSegment):
    """A finished segment, if `stream_events[]` includes `segments`. Not OpenAI's."""

    type: Literal["sotto.segment"]


class ProgressEvent(TypedDict):
    """Progress, if `stream_events[]` includes `progress`. Not OpenAI's."""

    type: Literal["sotto.progress"]
    done_s: Seconds
    total_hint_s: NotRequired[Annotated[float, Ge(0), Doc("duration according to the file's header, s")]]
    queue_position: Annotated[int, Doc("requests ahead of this one")]
    language: NotRequired[Annotated[str, Doc("language code, from the first segment on")]]


TextEvent = TextDelta | TextDone | SegmentEvent | ProgressEvent
