"""The command line. Nothing heavy is imported until a command needs it: `sotto --help` is instant."""

import argparse
import os
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from server import __version__
from server.cli.bench import add_to as add_bench
from server.cli.models import add_to as add_models
from server.cli.ps import add_to as add_ps
from server.cli.transcribe import add_to as add_transcribe
from server.errors import InvalidRequest, SottoError, told
from server.settings import PREFIX, settings_with

EXIT_USAGE = 2

EXAMPLES = """\
examples:
  sotto transcribe talk.mp3             its text
  sotto serve --model small             a server on http://127.0.0.1:8000
  sotto doctor                          what would run here, and what lacks
  sotto COMMAND --help                  more of each

Settings are environment variables SOTTO_<NAME>, or keys of the TOML file that SOTTO_CONFIG names."""
SERVE_EXAMPLES = """\
examples:
  sotto serve --model turbo
  SOTTO_API_KEYS=$(openssl rand -hex 16) sotto serve --host 0.0.0.0

Everything else is a setting: environment variables SOTTO_<NAME>, or keys of the TOML file that
SOTTO_CONFIG names. `sotto doctor` tells what is wrong with them."""
COMPLETION_EXAMPLES = """\
examples:
  sotto completion bash > ~/.local/share/bash-completion/completions/sotto
  sotto completion zsh > "${fpath[1]}/_sotto"
  sotto completion fish > ~/.config/fish/completions/sotto.fish"""


def run(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit status. Errors are one line on stderr."""
    parser = make_parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return EXIT_USAGE
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except ValidationError as error:
        print(f"sotto: {_explain(error)}", file=sys.stderr)
        return EXIT_USAGE
    except InvalidRequest as error:
        print(f"sotto: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # whoever read has had enough; the flush at the end must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (SottoError, OSError) as error:
        print(f"sotto: {told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(args: argparse.Namespace) -> int:
    from server.commands.serve import serve

    return serve(settings_with(args, "host", "port", "model"))


def _doctor(args: argparse.Namespace) -> int:
    from server.commands.doctor import doctor

    return doctor(settings_with(args, "model"), as_json=args.json)


def _completion(args: argparse.Namespace) -> int:
    from server.cli.completion import script

    print(script(make_parser(), args.shell))
    return 0


def _explain(error: ValidationError) -> str:
    """What is wrong with which setting, as the user wrote it."""
    wrong = []
    for item in error.errors():
        name = f"{PREFIX}{'_'.join(map(str, item['loc'][:1])).upper()}"
        if item["type"] == "extra_forbidden":
            wrong.append(f"{os.environ.get(f'{PREFIX}CONFIG')} has {item['loc'][0]!r}, which is no setting")
            continue
        source = "" if name in os.environ else " (or the option of that name)"
        wrong.append(f"{name}{source}: {item['msg']}")
    return "; ".join(wrong)


def make_parser() -> argparse.ArgumentParser:
    """All commands; what is given has `run`, which takes it."""
    parser = argparse.ArgumentParser(
        prog="sotto",
        description="Speech to text on your own machine, behind OpenAI's audio API.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sotto {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands")

    serve = commands.add_parser(
        "serve",
        help="run the server",
        description="Run the server until Ctrl-C, which lets requests under way end; a second one doesn't.",
        epilog=SERVE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--host", help="address to listen on (SOTTO_HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for a free one (SOTTO_PORT, 8000)")
    serve.add_argument("--model", help="catalog name, directory or repository id (SOTTO_MODEL, demo)")
    serve.set_defaults(run=_serve)

    doctor = commands.add_parser(
        "doctor",
        help="tell what would run here",
        description="Try everything that the server needs, and tell what to do about what lacks. "
        "Exits with 0 if the server would run, with 1 if not. Contacts no other machine.",
    )
    doctor.add_argument("--json", action="store_true", help="for programs: docs/doctor.schema.json")
    doctor.add_argument("--model", help="catalog name, directory or repository id (SOTTO_MODEL, demo)")
    doctor.set_defaults(run=_doctor)

    add_transcribe(commands)
    add_bench(commands)
    add_models(commands)
    add_ps(commands)

    completion = commands.add_parser(
        "completion",
        help="print a script with which a shell completes all this",
        description="Print a script with which a shell completes commands, options and files.",
        epilog=COMPLETION_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=_completion)
    return parser
