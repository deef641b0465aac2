"""What `sotto transcribe` takes, and what it makes of that."""

import argparse
from collections.abc import Callable
from pathlib import Path

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
from server.settings import Settings, settings_with

ABOUT = """\
Transcribe audio and video files, whole directories of them, or standard input (-).
Several are under way at once. Errors are told at the end; what is done stays done."""
EXAMPLES = """\
examples:
  sotto transcribe interview.m4a                        text to standard output
  sotto transcribe lecture.mp4 --format srt,json --output
                                                        lecture.srt and lecture.json beside it
  sotto transcribe recordings/ --format srt --output subtitles/
                                                        all that is in there; again: only what is new
  sotto transcribe *.mp3 --format vtt --max-line-width 32 --output '{folder}/{stem}.en.vtt'
  ffmpeg -i rtsp://camera -t 60 -f wav - | sotto transcribe -
  sotto transcribe talk.mp3 --server http://box:8000    a running server does the work

Results appear when they are whole: after Ctrl-C the same command goes on with what is left.

environment, with --server: SOTTO_API_KEY, or else OPENAI_API_KEY, is the key

exit status: 0 all done; 1 some failed, with the reasons on standard error; 2 a mistake in the
command; 130 Ctrl-C"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `transcribe` to the command line; it sets `run`, which takes what was given."""
    parser = commands.add_parser(
        "transcribe",
        help="transcribe files, by this process or a server",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="or a directory, or - for standard input"
    )
    parser.add_argument("--model", help="catalog name, directory or repository id (SOTTO_MODEL, demo)")
    parser.add_argument("--language", help="code or English name; default: detect")
    parser.add_argument(
        "--task", choices=("transcribe", "translate"), default="transcribe", help="translate: English"
    )
    parser.add_argument("--prompt", default="", help="words or context that the recording is about")
    parser.add_argument("--words", action="store_true", help="word times too (in verbose_json)")
    parser.add_argument("--server", metavar="URL", help="let this server do the work")

    results = parser.add_argument_group("results")
    results.add_argument(
        "--format",
        type=_formats,
        default=("text",),
        metavar="FORMAT[,FORMAT...]",
        help=f"{', '.join(RESPONSE_FORMATS)}; default: text. Several need --output",
    )
    results.add_argument(
        "--output",
        nargs="?",
        const=BESIDE,
        metavar="DIR|FILE",
        help="where to write results: beside the recordings if nothing follows; into a directory; or to a file, "
        "whose name has {stem}, {name}, {folder}, {ext} in it for several. Default: to standard output",
    )
    results.add_argument("--overwrite", action="store_true", help="also what there is already")

    usual = SubtitleOptions()
    cues = parser.add_argument_group(
        "subtitles", "Any of these shapes srt and vtt by the times of words; without them a segment is a cue."
    )
    shapes: list[tuple[str, Callable[[str], float], str, str]] = [
        ("--max-line-width", _within(int, 1, MAX_LINE_WIDTH), "COLUMNS", f"default: {usual.max_line_width}"),
        (
            "--max-line-count",
            _within(int, 1, MAX_LINE_COUNT),
            "LINES",
            f"of a cue; default: {usual.max_line_count}",
        ),
        ("--min-cue-seconds", _within(float, 0, MAX_CUE_S), "S", f"default: {usual.min_cue_s:g}"),
        ("--max-cue-seconds", _within(float, MIN_MAX_CUE_S, MAX_CUE_S), "S", f"default: {usual.max_cue_s:g}"),
    ]
    for name, kind, unit, text in shapes:
        cues.add_argument(name, type=kind, metavar=unit, help=text)
    parser.set_defaults(run=_transcribe)


def _transcribe(args: argparse.Namespace) -> int:
    from server.commands.transcribe import TranscribeJob, transcribe

    settings = settings_with(args, "model")
    if len(args.format) > 1 and args.output is None:
        raise InvalidRequest("several formats need --output")
    if args.files.count(Path("-")) > 1:
        raise InvalidRequest("there is one standard input")
    options = _options(args, settings)
    output = None if args.output is None else OutputPath(args.output)
    order = TranscribeJob(tuple(args.files), args.format, options, output, args.overwrite)
    return transcribe(settings, order, args.server)


def _options(args: argparse.Namespace, settings: Settings) -> TranscriptionOptions:
    subtitles = _subtitles(args)
    return TranscriptionOptions(
        model=args.model or "" if args.server else "",
        response_format=args.format[0],
        granularities=frozenset({"segment", "word"} if args.words else {"segment"}),
        response_dialect=settings.response_dialect,
        nested_words=settings.nested_words,
        subtitles=subtitles,
        decoding=DecodingOptions(
            task=args.task,
            language=_language(args.language),
            prompt=args.prompt,
            beam_size=settings.beam_size,
            word_timestamps=args.words or subtitles is not None,
        ),
    )


def _subtitles(args: argparse.Namespace) -> SubtitleOptions | None:
    """How cues are to be shaped, if any option for it is there."""
    asked = {
        "max_line_width": args.max_line_width,
        "max_line_count": args.max_line_count,
        "min_cue_s": args.min_cue_seconds,
        "max_cue_s": args.max_cue_seconds,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked:
        return None
    if not set(args.format) & set(SUBTITLE_FORMATS):
        raise InvalidRequest(f"lines and cues are of subtitles: --format {' or '.join(SUBTITLE_FORMATS)}")
    longest_s = asked.get("max_cue_s", SubtitleOptions().max_cue_s)
    if asked.setdefault("min_cue_s", min(SubtitleOptions().min_cue_s, longest_s)) > longest_s:
        raise InvalidRequest(f"--min-cue-seconds is above --max-cue-seconds ({longest_s:g})")
    return SubtitleOptions(**asked)


def _language(asked: str | None) -> str | None:
    if asked is None or asked.lower() == "auto":
        return None
    if (code := code_of(asked)) is None:
        raise UnknownLanguage(asked)
    return code


def _formats(text: str) -> tuple[ResponseFormat, ...]:
    known = {each: each for each in RESPONSE_FORMATS}
    asked = dict.fromkeys(each.strip() for each in text.split(","))
    for each in asked:
        if each not in known:
            raise argparse.ArgumentTypeError(f"{each!r} is none of {', '.join(known)}")
    return tuple(known[each] for each in asked)  # type: ignore[index]


def _within(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = high + 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
        return value

    return number
