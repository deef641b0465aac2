"""Which Pythons are tried, what may be excused, and what the check comes to; lanes themselves run in CI."""

import sys
from pathlib import Path

import pytest

from scripts import check_pythons
from scripts.check_pythons import Lane, candidates, checked, excuses, found, judged, steps

NEW = (3, 12)


def write(path: Path, says: str, status: int = 0) -> str:
    """A command that answers whatever it is asked with `says`."""
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_this_python_is_known() -> None:
    assert check_pythons.version_of(sys.executable) == sys.version_info[:2]


@pytest.mark.parametrize(
    ("says", "versions"),
    [("3 12", [NEW]), ("3 11", []), ("3 10", []), ("", []), ("pyenv: python3.12: command not found", [])],
)
def test_only_a_newer_cpython_that_runs_is_taken(
    tmp_path: Path, says: str, versions: list[tuple[int, int]]
) -> None:
    assert list(found([write(tmp_path / "python3.99", says)])) == versions


def test_a_missing_command_is_not_a_candidate() -> None:
    assert found(["/no/such/python"]) == {}


def test_of_one_version_the_first_is_taken(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, "3 12") for name in ("a", "b"))
    assert found([first, second]) == {NEW: first}


def test_pyenvs_are_candidates_the_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("3.12.9", "3.12.10", "3.11.7"):
        folder = tmp_path / "versions" / version / "bin"
        folder.mkdir(parents=True)
        (folder / "python").touch()
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    listed = [name for name in candidates() if name.startswith(str(tmp_path))]
    assert [Path(name).parts[-3] for name in listed] == ["3.12.10", "3.12.9"]
    assert "python3.12" in candidates()


def test_without_a_newer_python_the_check_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked([], {}, tmp_path) == 1
    assert "no CPython newer than 3.11" in capsys.readouterr().err


@pytest.mark.parametrize(("passed", "status"), [([True, True], 0), ([True, False], 1), ([False, True], 1)])
def test_one_lane_that_fails_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed: list[bool], status: int
) -> None:
    outcomes = iter(passed)
    monkeypatch.setattr(check_pythons, "built", lambda _: tmp_path / "wheel")
    monkeypatch.setattr(check_pythons, "passes", lambda *_: next(outcomes))
    assert checked([Lane("python3.12", NEW, kind) for kind in check_pythons.KINDS], {}, tmp_path) == status


def test_a_failure_that_is_excused_is_a_loud_warning(capsys: pytest.CaptureFixture[str]) -> None:
    lane = Lane("python3.12", NEW, "newest")
    assert not judged(lane, False, "")
    assert judged(lane, False, "their release 9 is broken")
    assert "3.12-newest: WARNING, IT FAILED, which is excused: their release 9 is broken" in capsys.readouterr().err
    assert judged(lane, True, "their release 9 is broken")
    assert "can go" in capsys.readouterr().out


def test_excuses_are_read_by_lane() -> None:
    assert excuses("# a comment\n\n3.12-newest because of av 20\n") == {"3.12-newest": "because of av 20"}
    assert excuses(check_pythons.UPSTREAM.read_text("utf-8")).keys() <= {"3.12-newest", "3.13-newest"}


@pytest.mark.parametrize("line", ["3.12-newest", "3.12-lock because of av 20", "because of av 20"])
def test_an_excuse_without_reason_or_for_a_lock_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"upstream\.txt"):
        excuses(line)


@pytest.mark.parametrize(("kind", "installs"), [("lock", "--require-hashes"), ("newest", "eager")])
def test_a_lane_installs_what_its_name_says(tmp_path: Path, kind: str, installs: str) -> None:
    assert any(installs in step for step in steps(Lane("python3.12", NEW, kind), tmp_path / "wheel", tmp_path))


def test_a_step_that_fails_fails_the_lane_and_shows_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = write(tmp_path / "failing", "no venv here", status=3)
    assert not check_pythons.passes(Lane(failing, NEW, "lock"), tmp_path / "wheel", tmp_path)
    assert "no venv here" in capsys.readouterr().err
