"""Tools that a test needs and that a machine may not have."""

import os
from typing import NoReturn

import pytest


def skip_outside_ci(what: str) -> NoReturn:
    """Skip; but fail in CI, which promises all that the tests need: nothing else would notice what was not run."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}; in CI these tests have to run")
    pytest.skip(what)
