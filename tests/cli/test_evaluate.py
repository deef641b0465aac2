"""`sotto evaluate` without its extra, and help without loading any of it."""

import os
import subprocess
import sys

import pytest

from server.cli.evaluate import LIBRARIES
from tests.support.bad_inputs import DATA
from tests.support.serving import ROOT

END_S = 120.0
WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from server.cli.main import run
sys.exit(run(["evaluate", sys.argv[2]]))
"""
LIGHT = """
import sys
from server.cli.main import run
status = run(sys.argv[1:])
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
sys.exit(status)
"""


def python(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=END_S)


@pytest.mark.parametrize("library", LIBRARIES)
def test_without_the_extra_the_command_says_how_to_install_it(library: str) -> None:
    process = python(WITHOUT, library, str(DATA / "manifest.jsonl"))
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == "sotto: this command needs additional packages: pip install 'sotto[evaluate]'\n"


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    process = python(LIGHT, *arguments)
    assert process.returncode == 0
    assert "evaluate" in process.stdout
    loaded = set(process.stderr.split())
    assert "click" in loaded
    assert not loaded & {*LIBRARIES, "numpy", "av", "ctranslate2", "onnxruntime", "fastapi", "httpx2", "tqdm"}
