"""Documents describe every setting, route, field and command as the code has it, and their links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import get_args

import click
import pytest

from scripts import write_docs
from server.api.app import create_app
from server.api.openapi.declarations import ERRORS
from server.api.openapi.parameters import PARAMETERS
from server.cli.main import sotto
from server.models.catalog import SAMPLE_TEXT
from server.monitoring.access_log import Ending
from server.settings import Settings
from server.stats import MediaEnd
from tests.support.fakes import make_media
from tests.support.registries import registry_of

ROOT = Path(__file__).parents[2]
MARKDOWN = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "models/**/*.md", "benchmarks/*.md", "tools/*/*.md", "tests/*/README.md")
    for path in ROOT.glob(pattern)
)
SCRIPTED = (
    "README.md",
    "docs/cli.md",
    "docs/models.md",
    "docs/offline.md",
    "docs/settings.md",
    "docs/deployment.md",
)
README_LINES = 150


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", write_docs.DOCUMENTS, ids=lambda path: path.name)
def test_generated_tables_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert write_docs.regenerated(text) == text, "run `make docs`"


def test_every_generated_table_has_its_place() -> None:
    named = [
        found[1] for path in write_docs.DOCUMENTS for found in write_docs.REGION.finditer(path.read_text("utf-8"))
    ]
    assert set(named) == set(write_docs.TABLES)


def test_a_table_that_is_out_of_date_is_replaced_and_the_prose_around_it_stays() -> None:
    stale = "Before.\n<!-- generated: rooms -->\nold\n<!-- end -->\nAfter.\n"
    fresh = write_docs.regenerated(stale)
    assert fresh.startswith("Before.\n<!-- generated: rooms -->\n\n| room")
    assert fresh.endswith("|\n\n<!-- end -->\nAfter.\n")
    assert "old" not in fresh


def test_every_setting_has_one_heading() -> None:
    grouped = " ".join(write_docs.GROUPS.values()).split()
    assert sorted(grouped) == sorted(Settings.model_fields)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    (row,) = re.findall(rf"^\| `SOTTO_{name.upper()}` \|.*", text_of("docs/settings.md"), re.MULTILINE)
    assert row.endswith(f"| {Settings.model_fields[name].description} |")


def test_every_route_is_listed() -> None:
    app = create_app(Settings(), registry_of(), make_media())
    for path, methods in app.wrapped.openapi()["paths"].items():
        for method in methods:
            assert f"| `{method.upper()} {path}` |" in text_of("docs/api.md")


def test_every_form_field_is_described() -> None:
    for each in PARAMETERS:
        assert f"| `{each.name}` | {each.description} |" in text_of("docs/api.md")


def test_every_command_is_named() -> None:
    assert {"serve", "transcribe"} <= set(sotto.commands)
    for command in sotto.commands:
        assert f"`sotto {command}`" in text_of("docs/cli.md")


def test_every_verb_of_models_is_named() -> None:
    models = sotto.commands["models"]
    assert isinstance(models, click.Group)
    assert {"list", "pull", "remove", "path", "verify", "export", "import"} <= set(models.commands)
    for verb in models.commands:
        assert f"| `sotto models {verb}" in text_of("docs/models.md")


@pytest.mark.parametrize("document", SCRIPTED)
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
    return re.findall(rf"^```{kind}\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("document", MARKDOWN)
def test_links_lead_to_files_and_headings(document: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(document)))
    for target in (target for target in targets if not target.startswith("http")):
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text("utf-8")), target


def test_pictures_are_there_and_small() -> None:
    for name in re.findall(r'(?:src|srcset)="([^"]+)"', text_of("README.md")):
        picture = (ROOT / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 200_000


def anchors(text: str) -> set[str]:
    """What the headings of a document may be linked by, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_fits_its_screens() -> None:
    assert len(text_of("README.md").splitlines()) <= README_LINES


def test_the_models_of_the_readme_are_those_of_the_catalog() -> None:
    rows = re.findall(r"^\| (`[\w.-]+` \| .+? MB \| .+? GB \| .+? GB) \|", text_of("README.md"), re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        assert f"| {row} |" in text_of("docs/models.md")


def test_every_status_of_an_error_is_in_troubleshooting() -> None:
    listed = re.findall(r"^\| (\d{3}) \|", text_of("docs/troubleshooting.md"), re.MULTILINE)
    assert {int(status) for status in listed} == set(ERRORS)


def test_messages_that_explain_a_503_are_those_of_the_program() -> None:
    _, _, after = text_of("docs/troubleshooting.md").partition("\n## 503\n")
    table, _, _ = after.partition("\n## ")
    causes = re.findall(r"^\| (?!message|---)(.+?) \|", table, re.MULTILINE)
    said = [part for cause in causes for part in re.findall(r'"(.+?)"|`(.+?)`', cause)]
    source = "".join(path.read_text("utf-8") for path in (ROOT / "server").rglob("*.py"))
    assert len(said) > 10
    assert [quoted or name for quoted, name in said if (quoted or name) not in source] == []


@pytest.mark.parametrize("label", [*get_args(Ending), *get_args(MediaEnd)])
def test_every_label_of_logs_and_metrics_is_described(label: str) -> None:
    assert f"`{label}`" in text_of("docs/monitoring.md")


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_module_that_a_map_names_is_there(document: str) -> None:
    names = re.findall(r"`([\w./-]+/[\w]+\.py|\w+\.py)`", text_of(document))
    assert names
    for name in names:
        assert (ROOT / "server" / name).exists() or (ROOT / name).exists(), name
