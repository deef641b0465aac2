"""From the form of a request to a checked `TranscriptionOptions`: the meaning of every field."""

import re
from dataclasses import replace

from starlette.datastructures import FormData, UploadFile

from server import keep_alive
from server.api.fields import Fields, invalid, listing, quoted
from server.errors import InvalidRequest, UnknownLanguage
from server.languages import code_of
from server.options import (
    FALLBACK_TEMPERATURES,
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
    SUBTITLE_FORMATS,
    DecodingOptions,
    ResponseFormat,
    SubtitleOptions,
    TranscriptionOptions,
    VadOptions,
)
from server.settings import Settings
from server.transcript import Task

UNFIT_FOR_KEYWORDS = re.compile(r"[<>\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # markup and line breaks
SUBTITLE_FIELDS = ("max_line_width", "max_line_count", "min_cue_seconds", "max_cue_seconds")
PROMPT_CHARACTERS = 6_000  # more than the 223 tokens that count; a token is rarely longer than 20 characters


def parse_form(form: FormData, settings: Settings, task: Task) -> tuple[UploadFile, TranscriptionOptions]:
    """Return the file and the options of a request. Raises `InvalidRequest` naming the field."""
    fields = Fields(form.multi_items())
    model = _model(fields)
    response_format = _response_format(fields, model)
    granularities = fields.choices("timestamp_granularities", GRANULARITIES) or frozenset({"segment"})
    include = fields.choices("include", ("logprobs",))
    stream = fields.flag("stream", False)
    stream_events = fields.choices("stream_events", STREAM_EVENTS)
    shows_words = "segments" in stream_events if stream else response_format == "verbose_json"
    subtitles = subtitle_options(fields, response_format, stream=stream)
    language, languages = _languages(fields)
    options = TranscriptionOptions(
        model=model,
        response_format=response_format,
        response_dialect=fields.choice("response_dialect", RESPONSE_DIALECTS, settings.response_dialect),
        granularities=granularities,
        nested_words=fields.flag("nested_words", settings.nested_words),
        stream=stream,
        stream_events=stream_events,
        subtitles=subtitles,
        vad=_vad(fields),
        keep_alive_s=keep_alive_s(fields.text("keep_alive")),
        decoding=DecodingOptions(
            task=task,
            language=language,
            languages=languages,
            multilingual=fields.flag("multilingual", False),
            condition_on_previous_text=fields.flag(
                "condition_on_previous_text", settings.condition_on_previous_text
            ),
            prompt=fields.text("prompt")[-PROMPT_CHARACTERS:],
            hotwords=_hotwords(fields),
            beam_size=fields.whole("beam_size", settings.beam_size, 1, MAX_BEAM_SIZE),
            temperatures=_temperatures(fields),
            # Computed only on request: both need an alignment of every window.
            word_timestamps=("word" in granularities and shows_words) or subtitles is not None,
            token_logprobs="logprobs" in include and (stream or response_format == "json"),
        ),
    )
    _check_speakers(fields)
    return _file(form), options


def _model(fields: Fields) -> str:
    model = fields.text("model")
    if not model:
        raise InvalidRequest("you must provide a model parameter")
    return model


def keep_alive_s(value: str) -> float | None:
    """Return how long the model stays loaded, in seconds; None if the request doesn't say."""
    try:
        return keep_alive.parse(value) if value else None
    except ValueError as error:
        raise invalid("keep_alive", f"'keep_alive' {error}, not {quoted(value)}.") from error


def _file(form: FormData) -> UploadFile:
    uploads = form.getlist("file")
    if not uploads:
        raise InvalidRequest(
            "1 validation error for Request\nbody -> file\n  field required (type=value_error.missing)"
        )
    upload = uploads[-1]
    if not isinstance(upload, UploadFile):
        raise invalid("file", "'file' must be an uploaded file (a form part with a filename), not text.")
    return upload


def _response_format(fields: Fields, model: str) -> ResponseFormat:
    if fields.text("response_format") == "diarized_json":
        raise InvalidRequest(
            f"response_format 'diarized_json' is not compatible with model {quoted(model)}: this server has no "
            f"diarization. Use one of {listing(RESPONSE_FORMATS)} instead.",
            param="response_format",
            code="unsupported_value",
        )
    return fields.choice("response_format", RESPONSE_FORMATS, "json")


def subtitle_options(fields: Fields, response_format: ResponseFormat, *, stream: bool) -> SubtitleOptions | None:
    """Return the requested shape of cues; None if no field asks for one."""
    given = next((name for name in SUBTITLE_FIELDS if fields.text(name)), None)
    if given is None:
        return None
    if stream or response_format not in SUBTITLE_FORMATS:
        asked = "'stream'" if stream else f"'response_format' {quoted(response_format)}"
        raise invalid(
            given,
            f"'{given}' needs 'response_format' 'srt' or 'vtt' without 'stream', not {asked}.",
        )
    usual = SubtitleOptions()
    max_cue_s = fields.number("max_cue_seconds", usual.max_cue_s, MIN_MAX_CUE_S, MAX_CUE_S)
    min_cue_s = fields.number("min_cue_seconds", min(usual.min_cue_s, max_cue_s), 0, MAX_CUE_S)
    if min_cue_s > max_cue_s:
        raise invalid("min_cue_seconds", f"'min_cue_seconds' must not exceed 'max_cue_seconds' ({max_cue_s:g}).")
    return SubtitleOptions(
        max_line_width=fields.whole("max_line_width", usual.max_line_width, 1, MAX_LINE_WIDTH),
        max_line_count=fields.whole("max_line_count", usual.max_line_count, 1, MAX_LINE_COUNT),
        min_cue_s=min_cue_s,
        max_cue_s=max_cue_s,
    )


def _languages(fields: Fields) -> tuple[str | None, tuple[str, ...]]:
    """Return the language, if given, and the candidates in `languages`; a single candidate counts as given."""
    asked = fields.text("language")
    language = _code("language", asked) if asked and asked.lower() != "auto" else None
    languages = tuple(dict.fromkeys(_code("languages", each) for each in fields.items("languages")))
    if language and languages:
        raise invalid("languages", "'languages' can't be combined with 'language': send only one of them.")
    return (languages[0] if len(languages) == 1 else language), languages


def _code(name: str, language: str) -> str:
    code = code_of(language)
    if code is None:
        raise UnknownLanguage(language, param=name)
    return code


def _hotwords(fields: Fields) -> str:
    keywords = fields.items("keywords")
    for keyword in keywords:
        if UNFIT_FOR_KEYWORDS.search(keyword):
            raise invalid(
                "keywords", f"'keywords' must be single lines without '<' and '>', not {quoted(keyword)}."
            )
    hotwords = fields.text("hotwords")
    return ", ".join([hotwords, *keywords] if hotwords else keywords)[:PROMPT_CHARACTERS]


def _temperatures(fields: Fields) -> tuple[float, ...]:
    """Return the fallback ladder for 0 or no value; a value above 0 is used alone."""
    temperature = fields.number("temperature", 0, 0, 1)
    return (temperature,) if temperature > 0 else FALLBACK_TEMPERATURES


def _vad(fields: Fields) -> VadOptions:
    """Return the voice detection that `chunking_strategy` asks for; `vad_filter=false` turns it off in any case."""
    return replace(_chunking_strategy(fields), enabled=fields.flag("vad_filter", True))


def _chunking_strategy(fields: Fields) -> VadOptions:
    strategy = fields.text("chunking_strategy")
    members = fields.members("chunking_strategy")
    if not members and strategy in {"", "auto", '"auto"'}:
        return VadOptions()
    kind = members.text("chunking_strategy[type]")
    if kind != "server_vad":
        raise invalid(
            "chunking_strategy",
            f"'chunking_strategy' must be 'auto' or of type 'server_vad', not {quoted(kind or strategy)}.",
        )
    return VadOptions(
        threshold=members.number("chunking_strategy[threshold]", 0.5, 0, 1),
        prefix_padding_ms=members.whole("chunking_strategy[prefix_padding_ms]", 300, 0, MAX_VAD_MS),
        silence_duration_ms=members.whole("chunking_strategy[silence_duration_ms]", 200, 0, MAX_VAD_MS),
    )


def _check_speakers(fields: Fields) -> None:
    """Check known speakers against OpenAI's limits; they are not used, as there is no diarization."""
    if len(fields.items("known_speaker_names")) > MAX_SPEAKERS:
        raise invalid("known_speaker_names", f"'known_speaker_names' must be at most {MAX_SPEAKERS}.")
    if len(fields.items("known_speaker_references")) > MAX_SPEAKERS:
        raise invalid("known_speaker_references", f"'known_speaker_references' must be at most {MAX_SPEAKERS}.")
