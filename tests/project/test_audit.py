"""What the audit of dependencies makes of pip-audit's reports; and, slow, the audit itself where it can be had."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.audit import NoService, Report, judged, report_of
from tests.conftest import UNGUARDED

ROOT = Path(__file__).parents[2]
SOUND = {"name": "numpy", "version": "2.4.0", "vulns": []}
UNSOUND = {
    "name": "h11",
    "version": "0.14.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"], "aliases": [], "description": ""}],
}
UNKNOWN = {"name": "av", "skip_reason": "Dependency not found on PyPI and could not be audited: av (18.1.0)"}


def report(*entries: object) -> Report:
    return {"dependencies": list(entries), "fixes": []}


@pytest.mark.parametrize(
    ("reports", "status", "said"),
    [
        ([report(SOUND), report(SOUND)], 0, "No vulnerability is known in 2 packages.\n"),
        ([report(SOUND, UNSOUND)], 1, "audit: h11 0.14.0: PYSEC-1, fixed in 0.16.0\n"),
        ([report(SOUND, UNKNOWN)], 2, "audit: 1 of 2 were not checked: av\n"),
        ([report(UNKNOWN), report(UNSOUND)], 1, "fixed in 0.16.0\naudit: 1 of 2 were not checked: av\n"),
        ([report()], 2, ""),
    ],
)
def test_only_what_was_checked_counts_as_sound(
    reports: list[Report], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(reports) == status
    assert "".join(capsys.readouterr()).endswith(said)


def done(stdout: str, stderr: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.CompletedProcess([], 1, stdout, stderr)


def test_a_report_of_vulnerabilities_is_no_failure() -> None:
    assert report_of(done(json.dumps(report(UNSOUND)), "Found 1 known vulnerability")) == report(UNSOUND)


def test_an_unreachable_service_is_distinguished_from_a_failure_of_the_tool() -> None:
    trace = "Traceback (most recent call last):\nrequests.exceptions.ConnectionError: Failed to resolve 'host'"
    with pytest.raises(NoService, match="Failed to resolve"):
        report_of(done("", trace))
    with pytest.raises(RuntimeError, match="unrecognized"):
        report_of(done("", "usage: pip-audit\npip-audit: error: unrecognized arguments: --format"))


@pytest.mark.slow
def test_no_dependency_has_a_known_vulnerability() -> None:
    audit = subprocess.run(
        [sys.executable, "-m", "scripts.audit"], cwd=ROOT, env=UNGUARDED, capture_output=True, text=True
    )
    if audit.returncode == 2:
        pytest.skip(audit.stderr.strip().splitlines()[-1])
    assert audit.returncode == 0, audit.stderr
