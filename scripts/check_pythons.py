"""Runs the smoke tests on every CPython at hand that is newer than 3.11, on which the whole suite runs.

    python scripts/check_pythons.py [--python COMMAND]...

Each gets two throw-away environments, its lanes: `3.12-lock` with the versions of requirements.lock, `3.12-newest`
with the newest that pyproject.toml allows. A lane that fails by a fault of others can be excused in
`.ci/upstream.txt`; then it is a warning. To find no such Python at all is a failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UPSTREAM = ROOT / ".ci" / "upstream.txt"
OLDEST = (3, 11)
NEXT = range(OLDEST[1] + 1, OLDEST[1] + 20)  # minor versions looked for
KINDS = ("lock", "newest")
LANE_S = 600.0
TAIL_LINES = 60  # of a log
PROBE = """
import sys
usual = sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
print(*sys.version_info[:2] if usual and getattr(sys, "_is_gil_enabled", lambda: True)() else ())
"""


@dataclass(frozen=True)
class Lane:
    """A Python, and which versions of the dependencies it gets."""

    python: str
    version: tuple[int, int]
    kind: str

    @property
    def name(self) -> str:
        return f"{self.version[0]}.{self.version[1]}-{self.kind}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Runs the smoke tests on every newer CPython at hand.")
    parser.add_argument("--python", action="append", metavar="COMMAND", help="one to try, instead of all found")
    pythons = found(parser.parse_args(arguments).python or candidates())
    lanes = [Lane(python, version, kind) for version, python in sorted(pythons.items()) for kind in KINDS]
    with tempfile.TemporaryDirectory(prefix="lanes-") as folder:
        return checked(lanes, excuses(UPSTREAM.read_text("utf-8")), Path(folder))


def candidates() -> Iterator[str]:
    """Commands that may be a newer Python: those on the path, and pyenv's, the newest first."""
    for minor in NEXT:
        yield f"python3.{minor}"
        versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
        installed = versions.glob(f"3.{minor}.*/bin/python")
        yield from map(str, sorted(installed, key=patch, reverse=True))


def patch(path: Path) -> int:
    """Of a Python of pyenv's, the last part of its version; -1 where that is no number."""
    last = path.parts[-3].split(".")[2]
    return int(last) if last.isdecimal() else -1


def found(commands: Iterable[str]) -> dict[tuple[int, int], str]:
    """The first command for each version of CPython that is newer than the oldest."""
    pythons: dict[tuple[int, int], str] = {}
    for command in commands:
        if (version := version_of(command)) and version > OLDEST:
            pythons.setdefault(version, command)
    return pythons


def version_of(command: str) -> tuple[int, int] | None:
    """None where it is no released CPython, or does not run (as pyenv's stand-ins, for versions not chosen)."""
    if not shutil.which(command):
        return None
    said = subprocess.run([command, "-c", PROBE], capture_output=True, text=True).stdout
    numbers = re.fullmatch(r"(\d+) (\d+)\n", said)
    return (int(numbers[1]), int(numbers[2])) if numbers else None


def excuses(text: str) -> dict[str, str]:
    """Reasons by lane. Raises `ValueError` where one is lacking, and for a lock: what that holds is our choice."""
    reasons = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        lane, _, reason = line.partition(" ")
        if not lane.endswith("-newest") or not reason.strip():
            raise ValueError(f"{UPSTREAM.name}: not '3.12-newest because ...' but {line!r}")
        reasons[lane] = reason.strip()
    return reasons


def checked(lanes: Sequence[Lane], excused: Mapping[str, str], folder: Path) -> int:
    """Run the lanes, say how each went; the exit status."""
    if not lanes:
        print(
            f"check_pythons: FAILED, there is no CPython newer than {OLDEST[0]}.{OLDEST[1]} here", file=sys.stderr
        )
        return 1
    wheel = built(folder)
    outcomes = [judged(lane, passes(lane, wheel, folder), excused.get(lane.name, "")) for lane in lanes]
    return 0 if all(outcomes) else 1


def judged(lane: Lane, passed: bool, reason: str) -> bool:
    """Whether the whole check may still succeed."""
    if passed:
        print(f"{lane.name}: passed" + (f". Its line in {UPSTREAM.name} can go: {reason}" if reason else ""))
        return True
    if reason:
        print(f"{lane.name}: WARNING, IT FAILED, which is excused: {reason}", file=sys.stderr)
        return True
    print(f"{lane.name}: FAILED", file=sys.stderr)
    return False


def built(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def passes(lane: Lane, wheel: Path, folder: Path) -> bool:
    """Install, run the smoke tests, tidy up; prints the log where that fails."""
    place = folder / lane.name
    place.mkdir()
    began_s = time.monotonic()
    try:
        with (place / "log").open("w") as log:
            for step in steps(lane, wheel, place):
                print("$", *step, file=log, flush=True)
                subprocess.run(step, cwd=place, stdout=log, stderr=subprocess.STDOUT, timeout=LANE_S, check=True)
        print(f"{lane.name}: {time.monotonic() - began_s:.0f} s, {versions_in(place)}")
        return True
    except subprocess.SubprocessError as error:
        print(*(place / "log").read_text("utf-8").splitlines()[-TAIL_LINES:], error, sep="\n", file=sys.stderr)
        return False
    finally:
        shutil.rmtree(place / "venv", ignore_errors=True)


def steps(lane: Lane, wheel: Path, place: Path) -> list[list[str | Path]]:
    """Commands, to be run away from the checkout, whose modules would be taken instead of the installed ones."""
    python = place / "venv" / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    install = {
        "lock": [[*pip, "--require-hashes", "-r", ROOT / "requirements.lock"], [*pip, "--no-deps", wheel]],
        "newest": [[*pip, "--upgrade", "--upgrade-strategy", "eager", wheel]],
    }
    (place / "pytest.ini").write_text("[pytest]\n")
    smoke: list[str | Path] = [
        ROOT / "tests" / "project" / "test_smoke.py",
        "--noconftest",
        "-q",
        "-c",
        place / "pytest.ini",
    ]
    return [
        [lane.python, "-m", "venv", place / "venv"],
        *install[lane.kind],
        [*pip, "pytest"],
        [python, "-m", "pip", "--disable-pip-version-check", "list", "--format", "freeze"],
        [python, "-m", "pytest", *smoke],
    ]


def versions_in(place: Path) -> str:
    """Of what most depends on, and how many tests passed."""
    log = (place / "log").read_text("utf-8")
    names = "av ctranslate2 onnxruntime numpy fastapi starlette uvicorn huggingface-hub".split()
    pairs = [line.replace("_", "-").split("==") for line in log.splitlines() if "==" in line]
    listed = [f"{pair[0]} {pair[1]}" for pair in pairs if pair[0] in names]
    passed = re.findall(r"^\d+ passed", log, re.MULTILINE)
    return ", ".join([*listed, *passed])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
