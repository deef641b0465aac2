"""The options of `sotto doctor`."""

import click

from server.cli.help import Command
from server.cli.parameters import model_option
from server.settings import settings_with


@click.command(
    cls=Command,
    help="""\
Check everything that the server needs on this machine, and say how to fix what is missing.
Exits with 0 if the server can run, with 1 if not. Makes no network connections.""",
    short_help="check whether Sotto will run here",
)
@click.option("--json", "as_json", is_flag=True, help="machine-readable output: docs/doctor.schema.json")
@model_option
def doctor(as_json: bool, model: str | None) -> int:
    from server.commands.doctor import doctor

    return doctor(settings_with(model=model), as_json=as_json)
