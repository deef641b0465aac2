"""That the installed program works at all: its server, its commands, every usual kind of file.

It needs pytest and nothing else of the development's packages, and no other file of the tests but recordings:
`scripts/check_pythons.py` runs it on each Python, with locked and with newest versions of what the program needs.
"""

import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import httpx2
import pytest

SOTTO = Path(sys.executable).with_name("sotto")
DATA = Path(__file__).parent.parent / "data"
FORMATS = "en_13.wav en_14.mp3 en_15.m4a en_16.ogg en_17.webm en_18.flac en_19.mp4".split()
WAV = DATA / "en_13.wav"
START_S = 100.0
STOP_S = 60.0
COMMAND_S = 100.0
LIKE = 0.6  # of the words, in order: rounding differs between CPUs, and with it a word

SETTINGS = {"SOTTO_PORT": "0", "SOTTO_MODEL": "demo", "SOTTO_DEVICE": "cpu", "SOTTO_OFFLINE": "1"}
TEXTS: dict[str, str] = {
    entry["file"]: entry["text"]
    for entry in map(json.loads, (DATA / "manifest.jsonl").read_text("utf-8").splitlines())
}


def environment(home: Path) -> dict[str, str]:
    """No setting comes from outside, and nothing is written but below `home`."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("SOTTO_")}
    return {**others, "HOME": str(home), **SETTINGS}


def sotto(home: Path, *arguments: str | Path) -> str:
    """What a command writes; it must succeed."""
    done = subprocess.run(
        [SOTTO, *arguments], cwd=home, env=environment(home), capture_output=True, text=True, timeout=COMMAND_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def is_like(text: str, name: str) -> bool:
    """Whether `text` may pass for what is said in a recording."""
    return SequenceMatcher(None, words(text), words(TEXTS[name])).ratio() >= LIKE


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server that must start, stop when asked to, and log no traceback."""
    home = tmp_path_factory.mktemp("home")
    log = home / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [SOTTO, "serve"], cwd=home, env=environment(home), stdout=subprocess.PIPE, stderr=errors, text=True
        )
    too_long = threading.Timer(START_S, process.kill)
    too_long.start()
    with process:
        try:
            assert process.stdout
            said = next((line for line in process.stdout if "curl" in line), "")
            too_long.cancel()
            assert said, log.read_text()
            (url,) = re.findall(r"http://[\w.:]+", said)
            with httpx2.Client(base_url=url, timeout=COMMAND_S, trust_env=False) as client:
                yield client
            process.terminate()
            assert process.wait(STOP_S) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
        finally:
            too_long.cancel()
            process.kill()


def asked(server: httpx2.Client, content: bytes, **fields: Any) -> httpx2.Response:
    form = {"model": "whisper-1", **fields}
    return server.post("/v1/audio/transcriptions", data=form, files={"file": ("audio", content)})


def transcribed(server: httpx2.Client, content: bytes, **fields: Any) -> httpx2.Response:
    answer = asked(server, content, **fields)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("name", FORMATS)
def test_server_transcribes_every_usual_format(server: httpx2.Client, name: str) -> None:
    text = transcribed(server, (DATA / name).read_bytes()).json()["text"]
    assert is_like(text, name), text


def test_tags_that_are_not_utf_8_cost_nothing(server: httpx2.Client) -> None:
    title = b"INFOINAM" + struct.pack("<I", 6) + "Müller".encode("latin-1")
    tagged = WAV.read_bytes() + b"LIST" + struct.pack("<I", len(title)) + title
    text = transcribed(server, tagged).json()["text"]
    assert is_like(text, WAV.name), text


def test_words_have_times(server: httpx2.Client) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    answer = transcribed(server, WAV.read_bytes(), **fields).json()
    edges = [edge for word in answer["words"] for edge in (word["start"], word["end"])]
    assert len(edges) == 2 * len(words(answer["text"]))
    assert edges == sorted(edges)
    assert answer["segments"]
    assert answer["language"] == "english"


def test_subtitles_are_subtitles(server: httpx2.Client) -> None:
    assert re.match(
        r"1\n00:00:0\S+ --> 00:00:0\S+\n\w", transcribed(server, WAV.read_bytes(), response_format="srt").text
    )


def test_text_is_streamed(server: httpx2.Client) -> None:
    stream = transcribed(server, WAV.read_bytes(), stream="true").text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: {")]
    assert {event["type"] for event in events} == {"transcript.text.delta", "transcript.text.done"}
    assert is_like(events[-1]["text"], WAV.name), stream


def test_an_invalid_request_gets_the_envelope(server: httpx2.Client) -> None:
    answer = asked(server, WAV.read_bytes(), language="xx")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "language"


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/health", "/ready", "/metrics", "/v1/models", "/api/ps"]
)
def test_every_route_answers(server: httpx2.Client, path: str) -> None:
    assert server.get(path).status_code == 200


def test_command_transcribes_every_usual_format(tmp_path: Path) -> None:
    recordings = [DATA / name for name in FORMATS]
    sotto(tmp_path, "transcribe", *recordings, "--format", "text,json", "--output", tmp_path)
    for name in FORMATS:
        text = (tmp_path / name).with_suffix(".txt").read_text("utf-8")
        assert is_like(text, name), text
        assert json.loads((tmp_path / name).with_suffix(".json").read_text("utf-8"))["text"].strip() == text.strip()


def test_doctor_finds_no_problem(tmp_path: Path) -> None:
    report = json.loads(sotto(tmp_path, "doctor", "--json"))
    assert [check for check in report["checks"] if check["status"] == "problem"] == []
    assert (report["device"], report["runs"]) == ("cpu", True)


def test_the_bundled_model_is_listed(tmp_path: Path) -> None:
    assert "demo" in sotto(tmp_path, "models", "list")
