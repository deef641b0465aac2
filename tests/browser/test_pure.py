"""What of the page is pure, in Node: quicker than in a browser, and each function by itself."""

import shutil
import subprocess
from pathlib import Path

from tests.lacking import lacking

PURE = Path(__file__).parent / "pure"


def test_pure_functions_of_the_page() -> None:
    node = shutil.which("node") or lacking("Node is not installed")
    ran = subprocess.run([node, "--test", *PURE.glob("*.test.mjs")], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
