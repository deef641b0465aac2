"""`sotto completion`: scripts that let shells complete the command line."""

import click
from click.shell_completion import shell_complete

from server.cli.help import Command

PROGRAM = "sotto"
COMPLETE_VARIABLE = "_SOTTO_COMPLETE"  # set by a script that asks `sotto` for completions
SHELLS = ("bash", "zsh", "fish")
EXAMPLES = """\
examples:
  sotto completion bash > ~/.local/share/bash-completion/completions/sotto
  sotto completion zsh > "${fpath[1]}/_sotto"
  sotto completion fish > ~/.config/fish/completions/sotto.fish"""


@click.command(
    cls=Command,
    help="Print a shell script that completes commands, options, models and files.",
    short_help="print a shell completion script",
    epilog=EXAMPLES,
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL", help=", ".join(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    return shell_complete(context.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE, f"{shell}_source")
