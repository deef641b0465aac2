"""What a shell completes of the command line, as a script for it. The only home of shtab."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

FILES = ("FILE", "DIR|FILE")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that has `shell` complete what `parser` takes."""
    for action in _actions(parser):
        if action.type is Path or action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All that `parser` takes, its commands' too."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
