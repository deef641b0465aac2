"""What can't be undone is done in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.system import landlock
from server.system.landlock import FileAccess, landlock_version, restrict_to

pytestmark = pytest.mark.skipif(not landlock_version(), reason="no Landlock here")

ROOT = Path(__file__).parents[2]
RESTRICTED = """
import os, sys, threading
from pathlib import Path
from server.system.landlock import FileAccess, restrict_to
here = Path(sys.argv[1])
readable, changeable, other = (here / name for name in ("readable", "changeable", "other"))
reads = (str(readable), str(here / "file"), "/none")
restrict_to(FileAccess(reads, ("/dev/null", "/dev/zero"), (str(changeable),)))
"""


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        ("(readable / 'a').read_text()", "done"),
        ("os.listdir(readable)", "done"),
        ("(here / 'file').read_text()", "done"),
        ("(readable / 'a').write_text('')", "refused"),
        ("(readable / 'b').touch()", "refused"),
        ("(readable / 'a').unlink()", "refused"),
        ("(changeable / 'a').write_text('')", "done"),
        ("(changeable / 'c').mkdir()", "done"),
        ("(changeable / 'a').unlink()", "done"),
        ("(changeable / 'l').symlink_to('/')", "refused"),
        ("(other / 'a').read_text()", "refused"),
        ("os.listdir(here)", "refused"),
        ("open('/dev/null', 'w').write('a')", "done"),
        ("open('/dev/zero', 'rb').read(1)", "done"),
        ("open('/dev/urandom', 'rb').read(1)", "refused"),
        ("os.execv('/bin/true', ['true'])", "refused"),
    ],
)
def test_what_is_granted_works_and_nothing_else(attempt: str, outcome: str, tmp_path: Path) -> None:
    for name in ("readable", "changeable", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("a")
    (tmp_path / "file").touch()
    script = f"{RESTRICTED}\ntry: {attempt}\nexcept PermissionError: print('refused')\nelse: print('done')"
    command = [sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert ended.stdout == f"{outcome}\n", ended.stderr


def test_access_survives_the_way_to_a_child() -> None:
    access = FileAccess(("/usr", '/a "quoted" path'), ("/dev/null",))
    assert FileAccess.from_json(access.json()) == access


def test_without_landlock_nothing_is_restricted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(landlock, "landlock_version", lambda: 0)
    restrict_to(FileAccess())
    (tmp_path / "file").touch()
