"""The JDK's own HTTP client, which every Java library for OpenAI's API builds on or behaves like."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import KEY
from tests.support.bad_inputs import DATA, SPEECH_TEXT
from tests.support.serving import Running

SOURCE = Path(__file__).parent / "java" / "Transcribe.java"
DEADLINE_S = 60.0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("javac"), reason="no JDK is installed")
def test_an_offer_of_http_2_does_not_lose_the_form(server: Running) -> None:
    ran = subprocess.run(
        ["java", SOURCE, f"{server.base_url}/v1", KEY, DATA / "en_00.wav"],  # noqa: S607  # whichever is installed
        capture_output=True,
        encoding="utf-8",
        timeout=DEADLINE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    version, status, body = ran.stdout.splitlines()
    assert (version, status, json.loads(body)["text"]) == ("HTTP_1_1", "200", SPEECH_TEXT)
