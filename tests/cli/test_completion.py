"""Shells load the scripts of `sotto completion`, which ask `sotto` for completions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli.main import run
from tests.support.model_folders import WHOLE, filled

ROOT = Path(__file__).parents[2]
DIRECTORIES, FILES = "compopt -o dirnames", "compopt -o default"  # bash completes them itself

# `compopt` works only while bash completes; here it is printed with the completions.
COMPLETE = """\
compopt() { COMPREPLY+=("compopt $1 $2"); }
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_sotto_completion sotto
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def folder(no_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the command `sotto` on the PATH, bash's script, and one model."""
    command = tmp_path / "bin" / "sotto"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {sys.executable} -m server "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SOTTO_MODELS_DIR", str(tmp_path / "models"))
    filled(tmp_path / "models" / "small-talk", *WHOLE)
    return tmp_path


def completed(folder: Path, *words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    script = folder / "completion"
    script.write_bytes(subprocess.check_output(["sotto", "completion", "bash"], timeout=60))  # noqa: S607
    bash = ["bash", "--norc", "-c", COMPLETE, "bash", str(script), *words]
    done = subprocess.run(bash, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return set(done.stdout.splitlines()) - {""}


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sotto", "tr"], {"transcribe"}),
        (["sotto", "transcribe", "--max-l"], {"--max-line-width", "--max-line-count"}),
        (["sotto", "transcribe", "--task", ""], {"transcribe", "translate"}),
        (["sotto", "transcribe", "--format", "srt,v"], {"srt,verbose_json", "srt,vtt"}),
        (["sotto", "models", "p"], {"pull", "path"}),
        (["sotto", "models", "rm", "sm"], {"small-talk"}),
        (["sotto", "models", "pull", "sm"], {"small-talk", "small", "small.en"}),
        (["sotto", "serve", "--model", "./"], {DIRECTORIES}),
        (["sotto", "transcribe", "ta"], {FILES}),
        (["sotto", "completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_commands_options_values_models_and_files(
    words: list[str], offered: set[str], folder: Path
) -> None:
    assert completed(folder, *words) == offered


@pytest.mark.parametrize(
    ("name", "value"), [("SOTTO_PORT", "many"), ("SOTTO_CATALOG", "/no/such/catalog.toml"), ("SOTTO_CONFIG", "/no")]
)
def test_wrong_settings_do_not_disturb_a_completing_shell(
    name: str,
    value: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("_SOTTO_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "sotto\nmodels\npath\n")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run([]) == 0
    assert "plain,small-talk" in capsys.readouterr().out
    monkeypatch.setenv(name, value)
    assert run([]) == 0
    out, err = capsys.readouterr()
    assert (out.strip(), err) == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_can_read_its_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    written = capsys.readouterr().out
    assert f"_SOTTO_COMPLETE={shell}_complete" in written
    if shutil.which(shell):
        (tmp_path / "script").write_text(written)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True, timeout=60)


def test_an_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_completing_a_model_loads_nothing_heavy(folder: Path) -> None:
    program = "import sys; from server.cli.main import run; run([]); print(*sys.modules, file=sys.stderr)"
    environment = {"_SOTTO_COMPLETE": "bash_complete", "COMP_WORDS": "sotto\nmodels\npath\n", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "plain,small-talk" in done.stdout
    assert not {"numpy", "av", "ctranslate2", "huggingface_hub", "fastapi", "uvicorn"} & set(done.stderr.split())
