"""The wheel, as a user without a checkout gets it. Building it takes the build backend from a package index."""

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from server import __version__
from tests.conftest import UNGUARDED

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
INFO = f"sotto-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], env=UNGUARDED, check=True)
    [path] = folder.iterdir()
    return path


def test_the_wheel_fits_every_platform(wheel: Path) -> None:
    assert wheel.name == f"sotto-{__version__}-py3-none-any.whl"


def test_the_wheel_holds_the_program_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"server", INFO}
    modules = {name for name in names if name.endswith(".py")}
    assert modules == {path.relative_to(ROOT).as_posix() for path in (ROOT / "server").rglob("*.py")}
    assert not any("__pycache__" in name or "test" in name for name in names)


def test_the_page_is_whole(wheel: Path) -> None:
    archive = ZipFile(wheel)
    files = [path for path in (ROOT / "server/web").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert archive.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


def test_the_bundled_model_is_whole(wheel: Path) -> None:
    archive = ZipFile(wheel)
    demo = tomllib.loads(archive.read("server/_data/catalog.toml").decode())["models"]["demo"]
    sums = {name: hashlib.sha256(archive.read(f"server/_data/demo/{name}")).hexdigest() for name in demo["files"]}
    assert sums == {name: facts["sha256"] for name, facts in demo["pinned"].items()}
    assert archive.read("server/_data/demo/sample.wav") == (ROOT / "models/demo/sample.wav").read_bytes()


def test_licenses_are_part_of_an_export(wheel: Path) -> None:
    archive = ZipFile(wheel)
    assert archive.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    for copy in (f"{INFO}/licenses/models/demo/LICENSE", "server/_data/demo/LICENSE"):
        assert archive.read(copy) == (ROOT / "models/demo/LICENSE").read_bytes()


@pytest.fixture(scope="module")
def home_after(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home and working folder of a user who installed the wheel and transcribed the bundled recording."""
    site, home = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("home")
    subprocess.run([*PIP, "install", "--no-deps", "--no-index", "--target", site, wheel], check=True)
    # The wheel's own modules shadow those of the checkout, which may be installed here too.
    path = os.pathsep.join((str(site), os.environ["PYTHONPATH"]))
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": path, "SOTTO_OFFLINE": "1"}
    command = [sys.executable, f"{site}/bin/sotto", "transcribe", f"{site}/server/_data/demo/sample.wav"]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "Five one seven one six.\n"
    return home


def test_an_installed_command_transcribes_far_from_the_checkout(home_after: Path) -> None:
    assert [path for path in home_after.iterdir() if path.name != ".cache"] == []


def test_nothing_is_written_to_the_home_folder(home_after: Path) -> None:
    assert [path for path in home_after.rglob("*") if path.is_file()] == []
