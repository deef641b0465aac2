"""The README names every setting with its default, every route, field and command, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from server.api.app import create_app
from server.api.parameters import PARAMETERS
from server.cli import run
from server.registry import Registry
from server.settings import Settings
from tests.fakes import make_media

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def default_of(name: str) -> str:
    """A setting's default as the README writes it."""
    value = Settings.model_fields[name].default
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


def test_every_command_and_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert {"serve", "transcribe"} <= set(commands)
    for command in commands:
        assert f"sotto {command}" in README


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/api.md",
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
