"""The options of `sotto serve`."""

import click

from server.cli.help import Command
from server.cli.parameters import model_option
from server.settings import settings_with

EXAMPLES = """\
examples:
  sotto serve --model turbo
  SOTTO_API_KEYS=$(openssl rand -hex 16) sotto serve --host 0.0.0.0

Everything else is a setting: an environment variable SOTTO_<NAME>, or a key of the TOML file that
SOTTO_CONFIG names. `sotto doctor` checks them."""


@click.command(
    cls=Command,
    help="Run the server. Ctrl-C waits for running requests; a second Ctrl-C stops at once.",
    short_help="run the server",
    epilog=EXAMPLES,
)
@click.option("--host", help="address to listen on (SOTTO_HOST, 127.0.0.1)")
@click.option("--port", type=int, metavar="PORT", help="port to listen on, 0 for a free one (SOTTO_PORT, 8000)")
@model_option
def serve(host: str | None, port: int | None, model: str | None) -> int:
    from server.commands.serve import serve

    return serve(settings_with(host=host, port=port, model=model))
