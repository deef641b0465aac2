"""Shells load the scripts and complete what the command line takes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from server.cli.completion import script
from server.cli.main import make_parser, run

COMPLETE = """\
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_sotto
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(folder: Path, *words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    file = folder / "completion"
    file.write_text(script(make_parser(), "bash"))
    bash = ["bash", "--norc", "-c", COMPLETE, "bash", str(file), *words]
    done = subprocess.run(bash, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sotto", "tr"], {"transcribe"}),
        (["sotto", "transcribe", "--max-l"], {"--max-line-width", "--max-line-count"}),
        (["sotto", "transcribe", "--task", ""], {"transcribe", "translate"}),
        (["sotto", "models", "p"], {"pull", "path"}),
        (["sotto", "transcribe", "ta"], {"talk.mp3"}),
        (["sotto", "completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes_commands_options_values_and_files(
    words: list[str], offered: set[str], tmp_path: Path
) -> None:
    (tmp_path / "talk.mp3").touch()
    assert completed(tmp_path, *words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_such_that_their_shell_reads_them(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["completion", shell]) == 0
    written = capsys.readouterr().out
    assert "transcribe" in written
    if shutil.which(shell):
        (tmp_path / "script").write_text(written)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True, timeout=60)
