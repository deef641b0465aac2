"""Builds and checks what a release consists of: sdist, wheel, SBOM and their digests (docs/releasing.md).

    python scripts/release.py [--rehearsal] [--into FOLDER]

The tools run in a throw-away environment, by requirements-build.lock and requirements-release.lock. Nothing is
uploaded and no tag is set: the last lines say how.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements-build.lock", "requirements-release.lock")
SUMS = "SHA256SUMS"
HEADING = re.compile(r"^## (\S+) - (\S+)$", re.MULTILINE)
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Builds and checks the artefacts of a release.")
    parser.add_argument(
        "--rehearsal", action="store_true", help="take an undated changelog and an unclean checkout"
    )
    parser.add_argument("--into", type=Path, default=ROOT / "dist", metavar="FOLDER", help="default: dist")
    chosen = parser.parse_args(arguments)
    into: Path = chosen.into.resolve()
    version = version_of(ROOT)
    found = [] if chosen.rehearsal else list(problems(ROOT, version))
    if into.is_dir() and any(into.iterdir()):
        found.append(f"{into} is not empty")
    for problem in found:
        print(f"release: {problem}", file=sys.stderr)
    if found:
        return 1
    into.mkdir(parents=True, exist_ok=True)
    build(into, version)
    print(f"{into}: " + ", ".join(sorted(path.name for path in into.iterdir())))
    print("A rehearsal." if chosen.rehearsal else f"Next: git tag -a v{version} -m 'Sotto {version}'")
    return 0


def version_of(root: Path) -> str:
    version: str = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return version


def problems(root: Path, version: str) -> Iterator[str]:
    """Yield what a checkout lacks to be released."""
    latest = HEADING.search((root / "CHANGELOG.md").read_text("utf-8"))
    if not latest or latest[1] != version:
        yield f"CHANGELOG.md begins with {latest[1] if latest else 'no version'}, pyproject.toml says {version}"
    elif not DATE.fullmatch(latest[2]):
        yield f"CHANGELOG.md has no date for {version} but '{latest[2]}'"
    if git(root, "status", "--porcelain"):
        yield "the checkout has changes that are not committed"
    if git(root, "tag", "--list", f"v{version}"):
        yield f"the tag v{version} exists"


def git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build(into: Path, version: str) -> None:
    """Write the artefacts into a folder. Raises `CalledProcessError` where a tool finds a fault."""
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        place = Path(folder)
        tools = installed(place)
        python = tools / "python"
        # The wheel is built from the sdist, which so is known to be complete.
        run(python, "-m", "build", "--no-isolation", "--outdir", into, ROOT, cwd=place)
        run(python, "-m", "twine", "check", "--strict", *sorted(into.iterdir()), cwd=place)
        write_sbom(tools, into / f"sotto-{version}.cdx.json")
    write_sums(into)


def installed(place: Path) -> Path:
    """Install the tools. Returns the folder of their commands."""
    venv.create(place / "tools", with_pip=True)
    tools = place / "tools" / "bin"
    locks = [word for lock in LOCKS for word in ("-r", ROOT / lock)]
    run(tools / "python", "-m", "pip", "install", "--quiet", "--require-hashes", *locks, cwd=place)
    return tools


def write_sbom(tools: Path, path: Path) -> None:
    """List what is installed with Sotto, with hashes, in CycloneDX. The same lock gives the same bytes."""
    options = ("--pyproject", ROOT / "pyproject.toml", "--output-format", "JSON", "--output-reproducible")
    command = (tools / "cyclonedx-py", "requirements", *options, "--validate", "--output-file", path)
    run(*command, ROOT / "requirements.lock", cwd=path.parent)


def write_sums(into: Path) -> None:
    """Write the digests, as `sha256sum --check` reads them."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(into.iterdir())]
    (into / SUMS).write_text("\n".join(lines) + "\n")


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
