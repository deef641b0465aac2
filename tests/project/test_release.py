"""What a release consists of. The artefacts themselves take tools from a package index, so these tests are slow."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from scripts import release
from server import __version__
from tests.conftest import UNGUARDED

ROOT = Path(__file__).parents[2]
DATED = "# Changelog\n\n## 1.2.0 - 2027-01-31\n\n## 1.1.0 - unreleased\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that is ready to be released as 1.2.0."""
    (tmp_path / "CHANGELOG.md").write_text(DATED)
    release.git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def commit(root: Path) -> None:
    release.git(root, "add", ".")
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
    release.git(root, *identity, "commit", "--quiet", "--message", "Change")


def test_a_checkout_that_is_ready_has_no_problems(checkout: Path) -> None:
    assert list(release.problems(checkout, "1.2.0")) == []


@pytest.mark.parametrize(
    ("changelog", "problem"),
    [
        ("# Changelog\n", "CHANGELOG.md begins with no version, pyproject.toml says 1.2.0"),
        (DATED.replace("1.2.0", "1.3.0"), "CHANGELOG.md begins with 1.3.0, pyproject.toml says 1.2.0"),
        (DATED.replace("2027-01-31", "unreleased"), "CHANGELOG.md has no date for 1.2.0 but 'unreleased'"),
    ],
)
def test_the_changelog_begins_with_the_version_and_its_date(checkout: Path, changelog: str, problem: str) -> None:
    (checkout / "CHANGELOG.md").write_text(changelog)
    commit(checkout)
    assert list(release.problems(checkout, "1.2.0")) == [problem]


def test_what_is_not_committed_is_not_released(checkout: Path) -> None:
    (checkout / "new.py").touch()
    assert list(release.problems(checkout, "1.2.0")) == ["the checkout has changes that are not committed"]


def test_a_version_is_released_once(checkout: Path) -> None:
    release.git(checkout, "tag", "v1.2.0")
    assert list(release.problems(checkout, "1.2.0")) == ["the tag v1.2.0 exists"]


def test_artefacts_of_another_time_are_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sotto-0.0.1.tar.gz").touch()
    assert release.main(["--rehearsal", "--into", str(tmp_path)]) == 1
    assert f"{tmp_path} is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sotto-0.0.1.tar.gz"]


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.cuda"])
def test_the_guide_pins_the_base_that_the_dockerfile_takes(name: str) -> None:
    guide = (ROOT / "docs/releasing.md").read_text("utf-8")
    [base] = re.findall(r"^ARG BASE=(\S+)$", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert f"imagetools inspect {base} " in guide
    assert f"-f {name} --build-arg BASE={base}@sha256:" in guide


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("release") / "dist"
    command = (sys.executable, ROOT / "scripts/release.py", "--rehearsal", "--into", into)
    subprocess.run(command, env=UNGUARDED, check=True)
    return into


@pytest.mark.slow
def test_a_release_has_four_files(artefacts: Path) -> None:
    packages = {f"sotto-{__version__}.tar.gz", f"sotto-{__version__}-py3-none-any.whl"}
    assert {path.name for path in artefacts.iterdir()} == packages | {f"sotto-{__version__}.cdx.json", "SHA256SUMS"}


@pytest.mark.slow
def test_the_wheel_that_was_built_from_the_sdist_lacks_nothing(artefacts: Path) -> None:
    names = ZipFile(artefacts / f"sotto-{__version__}-py3-none-any.whl").namelist()
    listed = release.git(ROOT, "ls-files", "server", "models/catalog.toml", "models/demo").splitlines()
    expected = {re.sub("^models/", "server/_data/", name) for name in listed}
    assert expected <= set(names)


@pytest.mark.slow
def test_the_digests_are_those_of_the_files(artefacts: Path) -> None:
    lines = dict(line.split("  ")[::-1] for line in (artefacts / "SHA256SUMS").read_text().splitlines())
    others = [path for path in artefacts.iterdir() if path.name != "SHA256SUMS"]
    assert lines == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in others}


@pytest.mark.slow
def test_the_sbom_lists_the_lock_with_its_hashes(artefacts: Path) -> None:
    bom = json.loads((artefacts / f"sotto-{__version__}.cdx.json").read_text("utf-8"))
    assert (bom["bomFormat"], bom["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    assert sorted(map(facts_of, bom["components"])) == sorted(locked())


def facts_of(component: dict[str, Any]) -> tuple[str, str, set[str]]:
    [distribution] = component["externalReferences"]
    return component["name"], component["version"], {each["content"] for each in distribution["hashes"]}


def locked() -> list[tuple[str, str, set[str]]]:
    """Name, version and hashes of each line of the lock."""
    lines = re.sub(r"\\\n\s*", "", (ROOT / "requirements.lock").read_text("utf-8")).splitlines()
    pairs = [(Requirement(line.partition(" --hash")[0]), line) for line in lines]
    return [
        (pin.name, str(pin.specifier).removeprefix("=="), set(re.findall("[0-9a-f]{64}", line)))
        for pin, line in pairs
    ]
