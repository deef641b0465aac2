"""What of the page is pure, in Node: quicker than in a browser, and each function by itself."""

import shutil
import subprocess
from pathlib import Path

from tests.support.missing_tools import skip_outside_ci

PURE = Path(__file__).parent / "pure"


def test_pure_functions_of_the_page() -> None:
    node = shutil.which("node") or skip_outside_ci("Node is not installed")
    ran = subprocess.run([node, "--test", *PURE.glob("*.test.mjs")], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
