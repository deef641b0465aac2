"""What is installed and shipped: pinned by hash, bound to no package index, and the same in every file."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from server import __version__
from server.settings import Settings

ROOT = Path(__file__).parents[2]
LOCKS = tuple(f"requirements{suffix}.lock" for suffix in ("", "-dev", "-build", "-cuda", "-release"))
DOCKERFILES = ("Dockerfile.cpu", "Dockerfile.cuda")
PINNED = re.compile(r"[a-z0-9-]+(\[[a-z,-]+\])?==[^\s;]+( ; [^#]+?)?( --hash=sha256:[0-9a-f]{64})+")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pinned_in(lock: str) -> list[str]:
    """The lock's requirements, a line each."""
    lines = re.sub(r"\\\n\s*", "", text_of(lock)).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def project() -> dict[str, Any]:
    return tomllib.loads(text_of("pyproject.toml"))


def wanted_by(lock: str) -> list[str]:
    """What pyproject.toml asks for and the lock has to hold."""
    table = project()["project"]
    extras = table["optional-dependencies"]
    wanted: dict[str, list[str]] = {
        "requirements.lock": table["dependencies"],
        "requirements-dev.lock": table["dependencies"] + extras["dev"] + extras["evaluate"],
        "requirements-build.lock": project()["build-system"]["requires"],
        "requirements-cuda.lock": extras["cuda"],
        "requirements-release.lock": project()["dependency-groups"]["release"],
    }
    return [line for line in wanted[lock] if Requirement(line).name != table["name"]]  # its own extras


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_pinned_by_hash_and_names_no_index(lock: str) -> None:
    assert [line for line in pinned_in(lock) if not PINNED.fullmatch(line)] == []
    assert "://" not in text_of(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_what_pyproject_asks_for(lock: str) -> None:
    pinned = [Requirement(line.partition(" --hash")[0]) for line in pinned_in(lock)]
    for wanted in map(Requirement, wanted_by(lock)):
        name = canonicalize_name(wanted.name)
        versions = [str(one.specifier).removeprefix("==") for one in pinned if one.name == name]
        assert versions, f"{name} is not in {lock}: run `make lock`"
        assert all(wanted.specifier.contains(version) for version in versions), f"{name} {versions}"


def test_every_dependency_has_an_upper_bound() -> None:
    table = project()["project"]
    wanted = [
        *table["dependencies"],
        *table["optional-dependencies"]["evaluate"],
        *table["optional-dependencies"]["otel"],
        *project()["dependency-groups"]["release"],
    ]
    assert [line for line in wanted if Requirement(line).specifier.contains("1000")] == []


def test_versions_of_python_are_the_same_everywhere() -> None:
    prefix = "Programming Language :: Python :: 3."
    minors = [line.removeprefix(prefix) for line in project()["project"]["classifiers"] if line.startswith(prefix)]
    assert project()["project"]["requires-python"] == f">=3.{minors[0]}"
    named = re.search(r"tested on ((?:3\.\d+(?:, | and )?)+)", text_of("README.md"))
    assert named
    assert re.findall(r"3\.(\d+)", named[1]) == minors


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize(
    ("wanted", "installed", "replaces"),
    [("3.12", "3.12", False), ("3.12", "3.11", True), ("", "3.11", False)],
)
def test_another_python_that_is_asked_for_replaces_the_environment(
    tmp_path: Path, wanted: str, installed: str, replaces: bool
) -> None:
    """As make would; a stand-in for each Python says its version."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}
    command = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), f"VENV={tmp_path}/venv", "run"]
    for version, path in ((wanted, tmp_path / "asked"), (installed, tmp_path / "venv/bin/python")):
        if version:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\necho {version}\n")
            path.chmod(0o755)
    asked = [f"PYTHON={tmp_path}/asked"] if wanted else []
    done = subprocess.run([*command, *asked], env=environment, capture_output=True, text=True, check=True)
    assert (f"rm -rf {tmp_path}/venv" in done.stdout) == replaces
    assert f"test -x {tmp_path}/venv/bin/python" in done.stdout


def test_node_packages_are_pinned_by_hash_and_name_no_registry() -> None:
    folder = "tests/clients/node"
    wanted = json.loads(text_of(f"{folder}/package.json"))["dependencies"]
    locked = json.loads(text_of(f"{folder}/package-lock.json"))["packages"]
    itself = locked.pop("")
    assert itself["dependencies"] == wanted
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for package in locked.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package
    assert "://" not in text_of(f"{folder}/.npmrc")


def test_tests_run_on_what_is_shipped() -> None:
    assert set(pinned_in("requirements.lock")) <= set(pinned_in("requirements-dev.lock"))


@pytest.mark.parametrize("name", [*DOCKERFILES, "compose.yaml"])
def test_images_come_from_the_public_base_alone(name: str) -> None:
    text = text_of(name)
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    images = set(re.findall(r"^\s*image: (\S+)", text, re.MULTILINE))
    assert bases <= {"${BASE}"}
    assert arguments in ({}, {"BASE": "python:3.11-slim-bookworm", "MODEL": "base"})
    assert images <= {"sotto:cpu", "sotto:cuda"}
    assert "://" not in text
    assert not re.search(r"index-url|trusted-host|find-links|PIP_\w*(INDEX|HOST|CERT|LINKS)|pip\.conf", text)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfile_copies_only_what_the_context_holds(name: str) -> None:
    included = [line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text_of(name), re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert any(path == source or path.startswith(f"{source}/") for path in included)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_dockerfile_needs_only_what_old_builders_know(name: str) -> None:
    assert not re.search(r"<<|--link\b", text_of(name))


def test_both_images_end_in_the_same_instructions() -> None:
    ends = {text_of(name).partition("\nUSER ")[2] for name in DOCKERFILES}
    assert len(ends) == 1
    assert ends.pop().startswith("10001:10001\n")


def test_compose_waits_longer_for_a_stop_than_the_server() -> None:
    waits = re.findall(r"stop_grace_period: (\d+)s", text_of("compose.yaml"))
    assert [float(wait) > Settings.model_fields["grace_seconds"].default for wait in waits] == [True]


def test_version_is_one() -> None:
    assert project()["project"]["version"] == __version__


def test_the_makefile_has_every_target_that_the_docs_name() -> None:
    makefile = text_of("Makefile")
    phony = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    rules = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = {
        target
        for name in ("README.md", "CONTRIBUTING.md", "docs/releasing.md", "pyproject.toml")
        for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", text_of(name), re.MULTILINE)
    }
    assert {"run", "test"} <= named <= rules
    assert set(" ".join(phony).split()) <= rules
