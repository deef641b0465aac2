"""The README names every setting with its default, every route, field and command, and its links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import click
import pytest

from server.api.app import create_app
from server.api.openapi.parameters import PARAMETERS
from server.cli.main import sotto
from server.models.catalog import SAMPLE_TEXT
from server.pool.registry import Registry
from server.settings import Settings
from tests.support.fakes import make_media

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def default_of(name: str) -> str:
    """A setting's default as the README writes it."""
    value = Settings.model_fields[name].default
    if value and isinstance(value, tuple):
        return ",".join(value)
    if value in ((), None):
        return "empty"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_setting_is_in_the_table_as_it_is_in_the_code(name: str) -> None:
    description = Settings.model_fields[name].description
    default = default_of(name)
    written = default if default == "empty" else f"`{default}`"
    assert f"| `SOTTO_{name.upper()}` | {written} | {description} |" in README


def test_table_has_no_setting_that_is_gone() -> None:
    listed = re.findall(r"^\| `SOTTO_(\w+)` \|", README, re.MULTILINE)
    assert {name.lower() for name in listed} == set(Settings.model_fields)


def test_every_route_is_listed() -> None:
    app = create_app(Settings(), Registry(), make_media())
    for path, methods in app.wrapped.openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in README


def test_fields_are_listed_as_the_api_describes_them() -> None:
    rows = [f"| `{each.name}` | {each.text} |" for each in PARAMETERS]
    assert "\n".join(["| field | |", "| --- | --- |", *rows, ""]) in README


def test_every_command_is_named() -> None:
    assert {"serve", "transcribe"} <= set(sotto.commands)
    for command in sotto.commands:
        assert f"sotto {command}" in README


def test_every_verb_of_models_is_named() -> None:
    models = sotto.commands["models"]
    assert isinstance(models, click.Group)
    assert {"list", "pull", "remove", "path", "verify", "export", "import"} <= set(models.commands)
    for verb in models.commands:
        assert f"| `sotto models {verb}" in README


@pytest.mark.parametrize("document", ["README.md", "docs/offline.md"])
def test_commands_in_documents_are_such_that_the_program_takes(document: str) -> None:
    commands = [command for command in simple_commands(scripts_in(document)) if "sotto" in command]
    assert commands
    for command in commands:
        parse(sotto, command[command.index("sotto") + 1 :])


def parse(command: click.Command, words: list[str]) -> None:
    """Raises click.UsageError if the command doesn't take these words."""
    if isinstance(command, click.Group) and words:
        _, subcommand, rest = command.resolve_command(click.Context(command), words)
        assert subcommand
        parse(subcommand, rest)
    else:
        command.make_context(command.name, words)


def test_a_command_with_a_mistake_would_be_found() -> None:
    with pytest.raises(click.UsageError, match="No such option '--prt'"):
        parse(sotto, ["serve", "--prt", "8000"])


def scripts_in(document: str, kind: str = "sh[^\n]*") -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def simple_commands(scripts: list[str]) -> Iterator[list[str]]:
    """The words of each command, pipes and redirections aside."""
    for line in "".join(scripts).replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        words.whitespace_split = True
        for operator, command in groupby(words, lambda word: word[0] in "|&;<>"):
            if not operator:
                yield list(command)


def test_the_trial_of_docs_offline_works(tmp_path: Path) -> None:
    (script,) = scripts_in("docs/offline.md", "sh try")
    command = tmp_path / "bin" / "sotto"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}:$PYTHONPATH" exec {sys.executable} -m server "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        [*without_network(), "sh", "-e", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"trial is in {tmp_path / 'there' / 'trial'}; to serve it: sotto serve --model trial",
        "trial: all files match their checksums",
        SAMPLE_TEXT,
        f"removed trial: 12.7 MB in {tmp_path / 'there' / 'trial'}",
    ]


def without_network() -> list[str]:
    """What runs a command where there is no network at all, if this machine lets us; the guard is there anyway."""
    namespace = ["unshare", "--map-root-user", "--net"]
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return namespace


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/offline.md",
        "docs/accuracy.md",
        "docs/api.md",
        "docs/migrating.md",
        "docs/operations.md",
        "models/README.md",
        "tools/demo_model/README.md",
    ],
)
def test_links_lead_to_files(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (ROOT / document).parent.joinpath(target).exists(), target


def test_every_module_is_in_the_map_of_the_house() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for module in (ROOT / "server").glob("*.py"):
        if module.stem != "__init__":
            assert f"`{module.stem}`" in contributing
