"""Asks the package index's vulnerability service about each locked version, with pip-audit.

    python -m scripts.audit

The exit status is 1 where a vulnerability is known, 2 where any version could not be asked about. pip-audit alone
would count the latter as sound, as where an index answers that has no such service.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.release import ROOT, installed

LOCKS = ("requirements.lock", "requirements-cuda.lock")
UNREACHABLE = re.compile(
    r"requests\.exceptions\.|pip_audit\._service|ERROR:pip_audit\._cli:.*(connect|timed? ?out)"
)

Report = dict[str, Any]


class NoService(Exception):
    """The service can't be reached."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        tools = installed(Path(folder))
        try:
            reports = [report_of(asked(tools, ROOT / lock)) for lock in LOCKS]
        except NoService as error:
            print(f"audit: nothing was checked: {error}", file=sys.stderr)
            return 2
    return judged(reports)


def asked(tools: Path, lock: Path) -> "subprocess.CompletedProcess[str]":
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [str(tools / "python"), "-m", "pip_audit", *options, "-r", str(lock)]
    return subprocess.run(command, cwd=tools, capture_output=True, text=True)


def report_of(done: "subprocess.CompletedProcess[str]") -> Report:
    """Return pip-audit's report. Raises `NoService`, and `RuntimeError` for any other failure."""
    if done.stdout:
        report: Report = json.loads(done.stdout)
        return report
    reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
    raise (NoService if UNREACHABLE.match(reason) else RuntimeError)(reason)


def judged(reports: list[Report]) -> int:
    """Print what was found; the exit status."""
    entries = [entry for report in reports for entry in report["dependencies"]]
    known = list(vulnerabilities(entries))
    skipped = [entry["name"] for entry in entries if "skip_reason" in entry]
    for line in known:
        print(f"audit: {line}", file=sys.stderr)
    if skipped:
        print(f"audit: {len(skipped)} of {len(entries)} were not checked: {', '.join(skipped)}", file=sys.stderr)
    if known:
        return 1
    if skipped or not entries:
        return 2
    print(f"No vulnerability is known in {len(entries)} packages.")
    return 0


def vulnerabilities(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for found in entry.get("vulns", []):
            fixed = ", ".join(found["fix_versions"]) or "no version"
            yield f"{entry['name']} {entry['version']}: {found['id']}, fixed in {fixed}"


if __name__ == "__main__":
    sys.exit(main())
