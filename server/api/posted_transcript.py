"""A transcript that a client posts in the shape of `verbose_json`, and the options for rendering it."""

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from server.api.fields import Fields
from server.api.forms import SUBTITLE_FIELDS, subtitle_options
from server.errors import InvalidRequest, UnknownLanguage
from server.formats.word_texts import distributed, with_texts
from server.languages import code_of
from server.options import (
    DecodingOptions,
    Granularity,
    ResponseDialect,
    ResponseFormat,
    SubtitleOptions,
    TranscriptionOptions,
)
from server.settings import Settings
from server.transcript import Segment, Task, Transcript, Word

MAX_TIME_S = 3_600_000.0  # a thousand hours
MAX_ENTRIES = 200_000  # of each list; an hour of fast speech has 15000 words
# Pairs of words that fit into one cue, each of which shaping looks at: two seconds of a thread, which is enough for
# twelve hours of real speech in cues of two lines of 42.
MAX_PAIRS = 2_000_000

_STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")

Seconds = Annotated[float, Field(ge=0, le=MAX_TIME_S, description="seconds")]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True, config=_STRICT)
class PostedWord:
    word: Annotated[str, Field(description="as in `verbose_json`, bare, or with punctuation as in the text")]
    start: Seconds
    end: Seconds
    probability: Probability | None = None


Words = Annotated[list[PostedWord], Field(max_length=MAX_ENTRIES, fail_fast=True)]


@dataclass(frozen=True, slots=True, config=_STRICT)
class PostedSegment:
    start: Seconds
    end: Seconds
    text: Annotated[str, Field(description="with its leading space, if the language uses spaces")]
    words: Annotated[Words | None, Field(description="of this segment")] = None
    id: Count | None = None
    seek: Count | None = None
    tokens: Annotated[list[Count] | None, Field(fail_fast=True)] = None
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None


@dataclass(frozen=True, slots=True, config=_STRICT)
class PostedTranscript:
    """Unknown members, such as `usage`, are ignored; null means absent."""

    segments: Annotated[list[PostedSegment], Field(max_length=MAX_ENTRIES, fail_fast=True)]
    response_format: ResponseFormat
    words: Annotated[Words | None, Field(description="of all segments, if these have none")] = None
    language: Annotated[str | None, Field(description="a code or a name; `verbose_json` needs it")] = None
    duration: Annotated[
        Seconds | None, Field(description="of the recording; absent: the end of the last segment")
    ] = None
    task: Task | None = None
    response_dialect: ResponseDialect | None = None
    max_line_width: Annotated[float | None, Field(description="this and the next three: as for transcriptions")] = (
        None
    )
    max_line_count: float | None = None
    min_cue_seconds: float | None = None
    max_cue_seconds: float | None = None


POSTED = TypeAdapter(PostedTranscript)


def parse_posted(body: bytes, settings: Settings) -> tuple[Transcript, TranscriptionOptions]:
    """Return the transcript and the options for rendering it. Raises `InvalidRequest` naming the member."""
    try:
        posted = POSTED.validate_json(body)
    except ValidationError as error:
        raise _invalid_json(error) from error
    _check_times(posted)
    options = _options(posted, settings)
    segments = tuple(_segments(posted))
    if options.subtitles:
        segments = tuple(map(with_texts, segments))  # first: words that don't fit the text are left out
        _check_amount(segments, options.subtitles)
    last_s = max((segment.end for segment in segments), default=0.0)
    duration_s = last_s if posted.duration is None else posted.duration
    transcript = Transcript(options.decoding.task, _language(posted), None, duration_s, segments)
    return transcript, options


def _invalid_json(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = _path(first["loc"])
    message = first["msg"]
    text = f"Invalid value for '{path}': {message}." if path else f"Could not parse the body: {message}."
    return _invalid(path or None, text)


def _invalid(path: str | None, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=path, code="invalid_value")


def _path(location: Sequence[int | str]) -> str:
    """Return a path like `segments[3].start`, as OpenAI names members of JSON."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _check_times(posted: PostedTranscript) -> None:
    """Raise `InvalidRequest` if a word or segment ends before it starts, or segments are not in order."""
    _check_ends("words", posted.words)
    _check_ends("segments", posted.segments)
    before_s = 0.0
    for number, segment in enumerate(posted.segments):
        if segment.start < before_s:
            path = f"segments[{number}].start"
            raise _invalid(path, f"'{path}' must not be before the start of the previous segment ({before_s:g}).")
        before_s = segment.start
        _check_ends(f"segments[{number}].words", segment.words)


def _check_ends(name: str, parts: Sequence[PostedWord | PostedSegment] | None) -> None:
    for number, part in enumerate(parts or ()):
        if part.end < part.start:
            path = f"{name}[{number}].end"
            raise _invalid(path, f"'{path}' must not be before its start ({part.start:g}).")


def _check_amount(segments: Sequence[Segment], subtitles: SubtitleOptions) -> None:
    """Raise `InvalidRequest` if shaping so many words into such large cues would take too long."""
    columns = subtitles.max_line_width * subtitles.max_line_count
    lengths = [length for segment in segments for length in _word_lengths(segment)]
    if _pairs(lengths, columns) > MAX_PAIRS:
        text = f"'segments' has too many words for cues of {columns} columns: use smaller cues or post parts of it."
        raise _invalid("segments", text)


def _word_lengths(segment: Segment) -> list[int]:
    """Return the length of each word, with the space before it."""
    if segment.words:
        return [1 + len(word.word.strip()) for word in segment.words]
    return [1 + len(word) for word in segment.text.split()]


def _pairs(lengths: Sequence[int], columns: int) -> int:
    """Return the number of pairs of words that fit into `columns` together, each word with itself included."""
    pairs = first = width = 0
    for last, length in enumerate(lengths):
        width += max(length, 1)
        while width > columns and first < last:
            width -= max(lengths[first], 1)
            first += 1
        pairs += last - first + 1
    return pairs


def _options(posted: PostedTranscript, settings: Settings) -> TranscriptionOptions:
    has_words = bool(posted.words) or any(segment.words for segment in posted.segments)
    granularities: frozenset[Granularity] = frozenset({"segment", "word"} if has_words else {"segment"})
    given = {name: getattr(posted, name) for name in SUBTITLE_FIELDS}
    fields = Fields((name, f"{value:.15g}") for name, value in given.items() if value is not None)
    return TranscriptionOptions(
        response_format=posted.response_format,
        response_dialect=posted.response_dialect or settings.response_dialect,
        granularities=granularities,
        nested_words=settings.nested_words,
        subtitles=subtitle_options(fields, posted.response_format, stream=False),
        decoding=DecodingOptions(task=posted.task or "transcribe"),
    )


def _language(posted: PostedTranscript) -> str:
    if posted.language is None:
        if posted.response_format == "verbose_json":
            raise _invalid("language", "'response_format' 'verbose_json' needs 'language'.")
        return ""
    code = code_of(posted.language)
    if code is None:
        raise UnknownLanguage(posted.language)
    return code


def _segments(posted: PostedTranscript) -> Iterator[Segment]:
    segments = [_segment(number, each) for number, each in enumerate(posted.segments)]
    if posted.words and not any(segment.words for segment in segments):
        return distributed(segments, _words(posted.words))
    return iter(segments)


def _segment(number: int, posted: PostedSegment) -> Segment:
    """Fill in absent members; absent scores count as full confidence."""
    return Segment(
        id=number if posted.id is None else posted.id,
        seek=posted.seek or 0,
        start=posted.start,
        end=posted.end,
        text=posted.text,
        tokens=tuple(posted.tokens or ()),
        temperature=posted.temperature or 0.0,
        avg_logprob=posted.avg_logprob or 0.0,
        compression_ratio=1.0 if posted.compression_ratio is None else posted.compression_ratio,
        no_speech_prob=posted.no_speech_prob or 0.0,
        words=_words(posted.words or ()),
    )


def _words(posted: Sequence[PostedWord]) -> tuple[Word, ...]:
    return tuple(
        Word(each.word, each.start, each.end, 1.0 if each.probability is None else each.probability)
        for each in posted
    )
