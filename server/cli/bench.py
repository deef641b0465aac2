"""The options of `sotto bench`."""

import math
from pathlib import Path

import click

from server.cli.help import Command
from server.cli.parameters import Counts, Seconds, model_option
from server.settings import settings_with

ABOUT = """\
Measure how fast recordings are transcribed by 1, 4 and 16 concurrent clients. Each client sends
the recording again as soon as it has its text. Prints a table that you can paste into an issue."""
EXAMPLES = """\
examples:
  sotto bench                                    the bundled model and recording
  sotto bench talk.mp3 --model small             your own
  sotto bench --server http://127.0.0.1:8000     a running server, with its uploads and queue
  sotto bench --clients 1,64 --seconds 60 --json

speed: seconds of audio transcribed per second, all clients together; RTF: the inverse;
p50, p95: half of the requests, and 95% of them, took at most this long"""


@click.command(cls=Command, help=ABOUT, short_help="measure transcription speed", epilog=EXAMPLES)
@click.argument(
    "file",
    type=click.Path(path_type=Path, readable=False),
    metavar="[FILE]",
    required=False,
    help="a recording; default: a bundled one",
)
@model_option
@click.option("--server", metavar="URL", help="measure this server instead")
@click.option(
    "--clients", type=Counts(), default=(1, 4, 16), metavar="N[,N...]", help="concurrent clients; default: 1,4,16"
)
@click.option(
    "--seconds",
    type=Seconds(0, math.inf, max_open=True),
    default=10.0,
    metavar="S",
    help="length of each round; default: 10",
)
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def bench(
    file: Path | None,
    model: str | None,
    server: str | None,
    clients: tuple[int, ...],
    seconds: float,
    as_json: bool,
) -> int:
    from server.commands.bench import bench

    return bench(
        settings_with(model=model),
        file,
        server=server,
        model=model or "" if server else "",
        clients=clients,
        round_s=seconds,
        as_json=as_json,
    )
