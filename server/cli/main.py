"""The command line. Imports heavy modules only in the command that needs them: `sotto --help` is instant."""

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete
from pydantic import ValidationError

from server import __version__
from server.cli.bench import bench
from server.cli.completion import COMPLETE_VARIABLE, PROGRAM, completion
from server.cli.doctor import doctor
from server.cli.help import CommandGroup
from server.cli.models import models
from server.cli.ps import ps
from server.cli.serve import serve
from server.cli.transcribe import transcribe
from server.errors import InvalidRequest, SottoError, one_line
from server.settings import PREFIX

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

EXAMPLES = """\
examples:
  sotto transcribe talk.mp3             print its text
  sotto serve --model small             start a server on http://127.0.0.1:8000
  sotto doctor                          check this machine
  sotto COMMAND --help                  show details and examples

Settings are environment variables SOTTO_<NAME>, or keys of the TOML file that SOTTO_CONFIG names."""


@click.group(
    cls=CommandGroup,
    commands=[serve, doctor, transcribe, bench, models, ps, completion],
    help="Speech to text on your own machine, behind OpenAI's audio API.",
    epilog=EXAMPLES,
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
)
@click.version_option(__version__, message="sotto %(version)s")
@click.pass_context
def sotto(context: click.Context) -> int:
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
    return EXIT_USAGE


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit status. Errors are one line on stderr."""
    try:
        status = _complete() if COMPLETE_VARIABLE in os.environ else _invoke(arguments)
        sys.stdout.flush()
        return status
    except click.UsageError as error:
        print(f"sotto: {_usage(error)}", file=sys.stderr)
        return EXIT_USAGE
    except ValidationError as error:
        print(f"sotto: {_explain(error)}", file=sys.stderr)
        return EXIT_USAGE
    except InvalidRequest as error:
        print(f"sotto: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # the reader has closed the pipe; avoids an error from the flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SottoError, OSError) as error:
        print(f"sotto: {one_line(error)}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, click.Abort):  # Abort: Ctrl-C at a prompt
        return EXIT_INTERRUPTED


def _invoke(arguments: Sequence[str]) -> int:
    try:
        with sotto.make_context(PROGRAM, list(arguments)) as context:
            status: int = sotto.invoke(context)
            return status
    except click.exceptions.Exit as ended:  # after --help and --version
        return ended.exit_code


def _complete() -> int:
    """Answer a shell that runs a script of `sotto completion`."""
    return shell_complete(sotto, {}, PROGRAM, COMPLETE_VARIABLE, os.environ[COMPLETE_VARIABLE])


def _usage(error: click.UsageError) -> str:
    """Return the mistake and the help command on one line; click wraps some of its messages."""
    message = " ".join(error.format_message().split())
    return f"{message} (see {error.ctx.command_path} --help)" if error.ctx else message


def _explain(error: ValidationError) -> str:
    """Return the invalid settings, by the names that the user knows, and the reasons."""
    wrong = []
    for item in error.errors():
        name = f"{PREFIX}{'_'.join(map(str, item['loc'][:1])).upper()}"
        if item["type"] == "extra_forbidden":
            wrong.append(f"{os.environ.get(f'{PREFIX}CONFIG')} has {item['loc'][0]!r}, which is not a setting")
            continue
        source = "" if name in os.environ else " (or the option of that name)"
        wrong.append(f"{name}{source}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(wrong)
