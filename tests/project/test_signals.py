"""Signals reach the processes that tests start, whatever started the tests."""

import os
import signal
import subprocess
import sys

DISPOSITION = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"


def test_a_child_is_interrupted_by_sigint() -> None:
    done = subprocess.run([sys.executable, "-c", DISPOSITION], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_child_of_tests_that_ignore_sigint_is_too() -> None:
    this = f"{__file__}::{test_a_child_is_interrupted_by_sigint.__name__}"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        tests = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", this],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            timeout=100,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert "1 passed" in tests.stdout, tests.stdout
