"""What `sotto bench` takes."""

import argparse
import math
from pathlib import Path

from server.settings import settings_with

ABOUT = """\
Measure how fast recordings are transcribed: for one client, for 4 and for 16, each of whom sends
the recording again when its text has come. Prints a table for an issue report."""
EXAMPLES = """\
examples:
  sotto bench                                    the bundled model and recording
  sotto bench talk.mp3 --model small             your own
  sotto bench --server http://127.0.0.1:8000     a running server, its uploads and queue included
  sotto bench --clients 1,64 --seconds 60 --json

speed: seconds of audio in a second, all clients together; RTF: the same, the other way round;
p50, p95: half the answers came within this time, 95% within that"""


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bench` to the command line; it sets `run`, which takes what was given."""
    parser = commands.add_parser(
        "bench",
        help="measure how fast it is here",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a recording; default: a bundled one")
    parser.add_argument("--model", help="catalog name, directory or repository id (SOTTO_MODEL, demo)")
    parser.add_argument("--server", metavar="URL", help="measure this server instead")
    parser.add_argument("--clients", type=_counts, default=(1, 4, 16), metavar="N[,N...]", help="default: 1,4,16")
    parser.add_argument("--seconds", type=_seconds, default=10.0, metavar="S", help="of each round; default: 10")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    from server.commands.bench import bench

    return bench(
        settings_with(args, "model"),
        args.file,
        server=args.server,
        model=args.model or "" if args.server else "",
        clients=args.clients,
        round_s=args.seconds,
        as_json=args.json,
    )


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(each) if each.strip().isdecimal() else 0 for each in text.split(","))
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of counts such as 1,4,16")
    return counts


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
