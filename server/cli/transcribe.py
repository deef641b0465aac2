"""The options of `sotto transcribe`, and the request that they describe."""

from functools import partial
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import click

from server.cli.help import Command, Option
from server.cli.parameters import Formats, Seconds, model_option
from server.commands.files import BESIDE, OutputPath
from server.errors import InvalidRequest, UnknownLanguage
from server.languages import code_of
from server.options import (
    MAX_CUE_S,
    MAX_LINE_COUNT,
    MAX_LINE_WIDTH,
    MIN_MAX_CUE_S,
    RESPONSE_FORMATS,
    SUBTITLE_FORMATS,
    DecodingOptions,
    ResponseFormat,
    SubtitleOptions,
    TranscriptionOptions,
)
from server.settings import settings_with

ABOUT = """\
Transcribe audio and video files, whole directories of them, or standard input (-). Files are
processed in parallel; errors are reported at the end; finished results are kept."""
EXAMPLES = """\
examples:
  sotto transcribe interview.m4a                        text to standard output
  sotto transcribe lecture.mp4 --format srt,json --output
                                                        lecture.srt and lecture.json beside it
  sotto transcribe recordings/ --format srt --output subtitles/
                                                        the whole folder; run again, only new files
  sotto transcribe *.mp3 --format vtt --max-line-width 32 --output '{folder}/{stem}.en.vtt'
  ffmpeg -i rtsp://camera -t 60 -f wav - | sotto transcribe -
  sotto transcribe talk.mp3 --server http://box:8000    use a running server

Each result is written when it is complete. After Ctrl-C, the same command resumes with the rest.

environment, with --server: SOTTO_API_KEY, or else OPENAI_API_KEY, is the API key

exit status: 0 success; 1 some files failed, with the reasons on standard error; 2 usage error;
130 Ctrl-C"""

Task = Literal["transcribe", "translate"]
USUAL = SubtitleOptions()

result_option = partial(click.option, cls=Option, section="Results")
subtitle_option = partial(
    click.option, cls=Option, section="Subtitles (srt and vtt; without these options each segment is one cue)"
)


class CueShape(TypedDict):
    """Fields of SubtitleOptions; None where the option is absent."""

    max_line_width: int | None
    max_line_count: int | None
    min_cue_s: float | None
    max_cue_s: float | None


@click.command(
    cls=Command, help=ABOUT, short_help="transcribe files, on this machine or by a server", epilog=EXAMPLES
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE...",
    help="a file, a directory, or - for standard input",
)
@model_option
@click.option("--language", metavar="LANGUAGE", help="code or English name; default: detect automatically")
@click.option(
    "--task",
    type=click.Choice(("transcribe", "translate")),
    default="transcribe",
    help="translate: into English",
)
@click.option("--prompt", default="", metavar="TEXT", help="topic, names or the opening words")
@click.option("--words", is_flag=True, help="add word times (verbose_json)")
@click.option("--server", metavar="URL", help="transcribe on this server instead")
@result_option(
    "--format",
    "formats",
    type=Formats(),
    default=("text",),
    metavar="FORMAT[,FORMAT...]",
    help=f"{', '.join(RESPONSE_FORMATS)}; default: text. Several formats need --output",
)
@result_option(
    "--output",
    is_flag=False,
    flag_value=BESIDE,
    type=click.Path(),
    metavar="[DIR|FILE]",
    help="where to write results: alone, beside the recordings; else to a directory or a file. For several "
    "results the file's name contains {stem}, {name}, {folder} or {ext}. Default: standard output",
)
@result_option("--overwrite", is_flag=True, help="overwrite existing results")
@subtitle_option(
    "--max-line-width",
    type=click.IntRange(1, MAX_LINE_WIDTH),
    metavar="COLUMNS",
    help=f"default: {USUAL.max_line_width}",
)
@subtitle_option(
    "--max-line-count",
    type=click.IntRange(1, MAX_LINE_COUNT),
    metavar="LINES",
    help=f"lines per cue; default: {USUAL.max_line_count}",
)
@subtitle_option(
    "--min-cue-seconds",
    "min_cue_s",
    type=Seconds(0, MAX_CUE_S),
    metavar="S",
    help=f"default: {USUAL.min_cue_s:g}",
)
@subtitle_option(
    "--max-cue-seconds",
    "max_cue_s",
    type=Seconds(MIN_MAX_CUE_S, MAX_CUE_S),
    metavar="S",
    help=f"default: {USUAL.max_cue_s:g}",
)
def transcribe(
    files: tuple[Path, ...],
    model: str | None,
    language: str | None,
    task: Task,
    prompt: str,
    words: bool,
    server: str | None,
    formats: tuple[ResponseFormat, ...],
    output: str | None,
    overwrite: bool,
    **shape: Unpack[CueShape],
) -> int:
    from server.commands.transcribe import TranscribeJob, transcribe

    settings = settings_with(model=model)
    if len(formats) > 1 and output is None:
        raise InvalidRequest("several formats need --output")
    if files.count(Path("-")) > 1:
        raise InvalidRequest("standard input (-) can be named only once")
    subtitles = _subtitles(shape, formats)
    options = TranscriptionOptions(
        model=model or "" if server else "",
        response_format=formats[0],
        granularities=frozenset({"segment", "word"} if words else {"segment"}),
        response_dialect=settings.response_dialect,
        nested_words=settings.nested_words,
        subtitles=subtitles,
        decoding=DecodingOptions(
            task=task,
            language=_language(language),
            prompt=prompt,
            beam_size=settings.beam_size,
            word_timestamps=words or subtitles is not None,
        ),
    )
    target = None if output is None else OutputPath(output)
    return transcribe(settings, TranscribeJob(files, formats, options, target, overwrite), server)


def _subtitles(shape: CueShape, formats: tuple[ResponseFormat, ...]) -> SubtitleOptions | None:
    """Return the requested shape of cues; None without any option for it."""
    if all(value is None for value in shape.values()):
        return None
    if not set(formats) & set(SUBTITLE_FORMATS):
        raise InvalidRequest(f"options for subtitles need --format {' or '.join(SUBTITLE_FORMATS)}")
    longest_s = shape["max_cue_s"] or USUAL.max_cue_s
    shortest_s = min(USUAL.min_cue_s, longest_s) if shape["min_cue_s"] is None else shape["min_cue_s"]
    if shortest_s > longest_s:
        raise InvalidRequest(f"--min-cue-seconds exceeds --max-cue-seconds ({longest_s:g})")
    return SubtitleOptions(
        max_line_width=shape["max_line_width"] or USUAL.max_line_width,
        max_line_count=shape["max_line_count"] or USUAL.max_line_count,
        min_cue_s=shortest_s,
        max_cue_s=longest_s,
    )


def _language(asked: str | None) -> str | None:
    if asked is None or asked.lower() == "auto":
        return None
    if (code := code_of(asked)) is None:
        raise UnknownLanguage(asked)
    return code
