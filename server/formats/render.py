"""Renders a finished transcript as json, text, srt, vtt or verbose_json, byte for byte like OpenAI's.

Shapes follow live responses of api.openai.com (openai/openai-dotnet, tests/SessionRecords) where they differ
from the published schema. Pure functions of values; the only trace of HTTP is a content type.
"""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from server.formats import answers
from server.formats.subtitles import MIN_CUE_MS, Cue, cue_text, make_cues
from server.languages import name_of
from server.options import ResponseDialect, ResponseFormat, TranscriptionOptions
from server.transcript import Segment, Transcript, Word

Json = Mapping[str, object]

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"  # for subtitles too, as OpenAI's cloud does

WORST_LOGPROB = -100.0  # below any threshold a client may filter by

_NUMBER = re.compile(r"(?<![-.,])[-.,]\d")  # -5 and .5 are not 5, but "...5" is
_SPOKEN = frozenset("%‰٪％&＆#＃@＠*§")  # punctuation to Unicode, yet read aloud or part of a name (C#)


@dataclass(frozen=True, slots=True)
class Format:
    """A content type, the extension of files, and the function that writes the body; a dict becomes JSON."""

    content_type: str
    extension: str
    write: Callable[[Transcript, TranscriptionOptions], str | answers.Answer]


def render(transcript: Transcript, options: TranscriptionOptions) -> tuple[str, bytes]:
    """Return the content type and body (UTF-8) for `options.response_format`."""
    chosen = FORMATS[options.response_format]
    body = chosen.write(transcript, options)
    return chosen.content_type, (body if isinstance(body, str) else to_json(body)).encode()


def to_json(value: Json) -> str:
    """Return compact JSON on one line, not escaped to ASCII. Raises ValueError on NaN, which JSON doesn't have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def usage(duration_s: float) -> answers.DurationUsage:
    """Return `{"type":"duration","seconds":n}`, the reported duration rounded up to whole seconds."""
    return {"type": "duration", "seconds": math.ceil(_ms(duration_s) / 1000)}


def token_usage(transcript: Transcript) -> answers.TokenUsage:
    """Return the usage of `gpt-*` models: ten tokens per second of audio, rounded up, and the text's tokens."""
    audio_tokens = math.ceil(_ms(transcript.duration_s) / 100)
    text_tokens = transcript.prompt_tokens
    output_tokens = sum(segment.text_tokens for segment in transcript.segments)
    return {
        "type": "tokens",
        "input_tokens": text_tokens + audio_tokens,
        "input_token_details": {"text_tokens": text_tokens, "audio_tokens": audio_tokens},
        "output_tokens": output_tokens,
        "total_tokens": text_tokens + audio_tokens + output_tokens,
    }


def logprob_dicts(segments: Iterable[Segment]) -> list[answers.Logprob]:
    """Return `token`, `logprob` and `bytes` (a list of integers) of every text token with a logprob."""
    return [
        {"token": each.token, "logprob": _score(each.logprob, WORST_LOGPROB), "bytes": list(each.bytes)}
        for segment in segments
        for each in segment.logprobs or ()
    ]


def language_dicts(transcript: Transcript) -> list[answers.Language]:
    """Return `[{"code": "en"}]`, or an empty list without speech, as no language can be detected then."""
    return [{"code": transcript.language}] if transcript.segments else []


def add_details(answer: answers.TranscribedText, transcript: Transcript, options: TranscriptionOptions) -> None:
    """Add the requested details to an answer in `json` or to the last event of a stream."""
    if options.decoding.token_logprobs:
        answer["logprobs"] = logprob_dicts(transcript.segments)
    if options.reports_languages and transcript.task == "transcribe":
        answer["languages"] = language_dicts(transcript)


def _json(
    transcript: Transcript, options: TranscriptionOptions
) -> answers.JsonTranscription | answers.JsonTranslation:
    answer: answers.TranscribedText = {"text": transcript.text}
    add_details(answer, transcript, options)
    if transcript.task == "translate":
        return answer  # OpenAI's translations have no usage
    return {**answer, "usage": token_usage(transcript) if options.counts_tokens else usage(transcript.duration_s)}


def segment_dict(segment: Segment) -> answers.TranscriptionSegment:
    """Return openai/whisper's ten fields, all required by Go and Rust clients; `start` and `end` in seconds."""
    return {
        "id": segment.id,
        "seek": segment.seek,
        "start": _seconds(segment.start),
        "end": _seconds(segment.end),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": _score(segment.avg_logprob, WORST_LOGPROB),
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": _score(segment.no_speech_prob, 1.0),
    }


def verbose_segment(
    segment: Segment, *, with_words: bool, dialect: ResponseDialect = "openai"
) -> answers.TranscriptionSegment:
    """Return `segment_dict`, with its words if requested: bare, or with punctuation in the nested dialect."""
    answer = segment_dict(segment)
    if with_words:
        answer["words"] = word_dicts(segment.words or (), bare=dialect == "openai")
    return answer


def word_dict(word: Word, *, bare: bool = True) -> answers.TranscriptionWord:
    """Return `word` (without spaces, `bare` also without punctuation around it), `start`, `end` in seconds, and
    `probability`, which OpenAI does not send."""
    return {
        "word": bare_word(word.word) if bare else word.word.strip(),
        "start": _seconds(word.start),
        "end": _seconds(word.end),
        "probability": round(_score(word.probability, 0.0), 4),
    }


def word_dicts(words: tuple[Word, ...], *, bare: bool = True) -> list[answers.TranscriptionWord]:
    """Return `word_dict` of every word that is not blank."""
    return [word_dict(word, bare=bare) for word in words if word.word.strip()]


def bare_word(text: str) -> str:
    """Return `text` without spaces and punctuation at both ends: `Hello` for ` Hello,`, but `o'clock`, `50%`,
    `-5`.

    Punctuation that stands alone is kept, so that no word of the transcript is missing or empty.
    """
    stripped = text.strip()
    start, end = 0, len(stripped)
    while start < end and is_edge(stripped[start]) and not _NUMBER.match(stripped, start):
        start += 1
    while start < end and is_edge(stripped[end - 1]):
        end -= 1
    return stripped[start:end] or stripped


def is_edge(char: str) -> bool:
    """Return True if `char` is stripped from the ends of words: a space, or punctuation that is not read aloud."""
    return char.isspace() or (unicodedata.category(char).startswith("P") and char not in _SPOKEN)


def timestamp(milliseconds: int, separator: str) -> str:
    """Return `HH:MM:SS,mmm` with the format's separator; hours are always there, with three digits where needed."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{milliseconds:03d}"


def _text(transcript: Transcript, _: TranscriptionOptions) -> str:
    return transcript.text + "\n"


def _srt(transcript: Transcript, options: TranscriptionOptions) -> str:
    cues = (
        f"{number}\n{timestamp(cue.start_ms, ',')} --> {timestamp(cue.end_ms, ',')}\n{_text_of(cue)}\n\n"
        for number, cue in enumerate(_cues(transcript, options), 1)
    )
    return "".join(cues) + "\n"


def _vtt(transcript: Transcript, options: TranscriptionOptions) -> str:
    cues = (
        f"{timestamp(cue.start_ms, '.')} --> {timestamp(cue.end_ms, '.')}\n{_vtt_escape(_text_of(cue))}\n\n"
        for cue in _cues(transcript, options)
    )
    return "WEBVTT\n\n" + "".join(cues)


def _verbose_json(
    transcript: Transcript, options: TranscriptionOptions
) -> answers.VerboseTranscription | answers.VerboseTranslation:
    answer = _verbose_answer(transcript, options)
    if transcript.task == "translate":
        return {"task": "translate", **answer}
    # Never in tokens: verbose_json has only this schema.
    return {"task": "transcribe", **answer, "usage": usage(transcript.duration_s)}


def _verbose_answer(transcript: Transcript, options: TranscriptionOptions) -> answers.VerboseAnswer:
    code = "en" if transcript.task == "translate" else transcript.language  # of the text, not of the speech
    nested = options.response_dialect == "nested"
    answer: answers.VerboseAnswer = {
        "language": code if nested else name_of(code),
        "language_code": code,
        "duration": _seconds(transcript.duration_s),
        "text": transcript.text,
    }
    with_words = "word" in options.granularities
    if nested or "segment" in options.granularities or not with_words:
        words_inside = with_words and (nested or options.nested_words)
        answer["segments"] = [
            verbose_segment(segment, with_words=words_inside, dialect=options.response_dialect)
            for segment in transcript.segments
        ]
    if with_words and not nested:
        answer["words"] = word_dicts(transcript.words)
    return answer


FORMATS: dict[ResponseFormat, Format] = {
    "json": Format(JSON, "json", _json),
    "text": Format(PLAIN, "txt", _text),
    "srt": Format(PLAIN, "srt", _srt),
    "verbose_json": Format(JSON, "json", _verbose_json),
    "vtt": Format(PLAIN, "vtt", _vtt),
}


def _cues(transcript: Transcript, options: TranscriptionOptions) -> Iterator[Cue]:
    """Yield cues in the requested shape, or one for every segment with visible text."""
    if options.subtitles:
        yield from make_cues(transcript, options.subtitles)
        return
    for segment in transcript.segments:
        text = cue_text(segment.text)
        if text:
            start = _ms(segment.start)
            yield Cue(start, max(_ms(segment.end), start + MIN_CUE_MS), (text,))


def _text_of(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _vtt_escape(text: str) -> str:
    # Not html.escape: it would also replace `>`, which is text in a cue.
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


def _seconds(seconds: float) -> float:
    """Round to whole milliseconds, so that all formats agree and JSON is free of float noise."""
    return _ms(seconds) / 1000


def _score(value: float, worst: float) -> float:
    """Replace a score that is NaN or infinite by the worst one: filters drop it, and JSON can hold it."""
    return value if math.isfinite(value) else worst
