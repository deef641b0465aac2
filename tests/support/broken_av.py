"""An FFmpeg out of order, for the programs that a test starts."""

import os
from pathlib import Path

import pytest

BROKEN = {
    "import": ("ImportError", "libavcodec.so: no such file"),
    "open": ("TypeError", "open() takes no such argument"),
}
IMPORT = 'raise {error}("{message}")\n'
OPEN = """
import sys
from importlib.machinery import PathFinder

spec = PathFinder.find_spec("av", [each for each in sys.path if each + "/av/__init__.py" != __file__])
__path__ = spec.submodule_search_locations
exec(compile(open(spec.origin).read(), spec.origin, "exec"))


def open(*_, **__):
    raise {error}("{message}")
"""


def break_av(how: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make `av` fail in Python programs started from now on: one of `BROKEN`; the message that it fails with."""
    error, message = BROKEN[how]
    package = folder / "broken" / "av"
    package.mkdir(parents=True)
    program = IMPORT if how == "import" else OPEN
    (package / "__init__.py").write_text(program.format(error=error, message=message))
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    return message
