"""The line that each request leaves in the log, and what is never in it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.bad_inputs import DATA, SPEECH_TEXT
from tests.support.fakes import wait_until
from tests.support.serving import TRANSCRIPTIONS, Running, serving
from tests.support.wire import Connection, field, file, form

SPEECH = "en_00.wav"
PROMPT = "Zanzibar quokka"
HOTWORDS = "Xylophonist"
LONG = form(field("model", "whisper-1"), file((DATA / "ten_minutes.ogg").read_bytes()))
STREAMED = form(field("model", "whisper-1"), field("stream", "true"), file((DATA / "ten_minutes.ogg").read_bytes()))
KEY = "sesame-0123456789abcdefghij"


@pytest.fixture(scope="module")
def logging_server() -> Iterator[Running]:
    """Writes all that it can write, as JSON, but for what is said."""
    with serving(log_format="json", log_level="debug", api_keys=f"lab {KEY}") as running:
        yield running


def entries(server: Running, request: str) -> list[dict[str, Any]]:
    """The access lines of a request, once there is one."""

    def found() -> list[dict[str, Any]]:
        lines = (json.loads(line) for line in server.log.splitlines() if request in line)
        return [line for line in lines if line["logger"] == "server.access"]

    wait_until(lambda: bool(found()))
    return found()


def test_a_transcription_leaves_one_line_with_numbers(logging_server: Running) -> None:
    answer = logging_server.transcribe(SPEECH, key=KEY)
    (entry,) = entries(logging_server, answer.headers["x-request-id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", entry.pop("time"))
    times = {name: entry.pop(name) for name in ("total_s", "wait_s", "run_s", "audio_s", "done_s")}
    assert all(isinstance(value, float) for value in times.values())
    assert 0 <= times["wait_s"] + times["run_s"] <= times["total_s"]
    assert times["audio_s"] == times["done_s"] > 1
    assert entry.pop("in_bytes") > (DATA / SPEECH).stat().st_size
    assert entry.pop("out_bytes") == len(answer.content)
    assert entry == {
        "level": "info",
        "logger": "server.access",
        "message": f"POST {TRANSCRIPTIONS} 200",
        "request_id": answer.headers["x-request-id"],
        "client": "127.0.0.1",
        "key": "lab",
        "method": "POST",
        "path": TRANSCRIPTIONS,
        "route": TRANSCRIPTIONS,
        "status": 200,
        "ended": "completed",
        "model": "demo",
    }


def test_the_route_is_a_template_and_the_path_the_client_s(logging_server: Running) -> None:
    answer = logging_server.get("//openai/v1/models/whisper-1", key=KEY)
    (entry,) = entries(logging_server, answer.headers["x-request-id"])
    assert (entry["route"], entry["path"]) == ("/v1/models/{model:path}", "//openai/v1/models/whisper-1")
    lost = logging_server.get("/nowhere", key=KEY)
    (entry,) = entries(logging_server, lost.headers["x-request-id"])
    assert "route" not in entry


@pytest.mark.parametrize(
    ("audio", "key", "status", "why"),
    [
        (SPEECH, "wrong", 401, "invalid_api_key: Incorrect API key provided: ***."),
        (b"no audio at all", KEY, 400, "invalid_value: The audio file could not be decoded"),
    ],
)
def test_a_refusal_says_why(logging_server: Running, audio: str | bytes, key: str, status: int, why: str) -> None:
    answer = logging_server.transcribe(audio, key=key)
    (entry,) = entries(logging_server, answer.headers["x-request-id"])
    assert (entry["status"], entry["ended"], entry["route"]) == (status, "rejected", TRANSCRIPTIONS)
    assert entry["why"].startswith(why)


@pytest.mark.parametrize(("body", "status"), [(LONG, 499), (STREAMED, 200)])
def test_a_disconnect_is_logged_as_one(logging_server: Running, body: bytes, status: int) -> None:
    logged = len(logging_server.log)
    with Connection(logging_server.base_url) as connection:
        connection.send_head({"Content-Length": str(len(body)), "Authorization": f"Bearer {KEY}"})
        connection.send(body)
        logging_server.wait_until_busy()
        if status == 200:
            connection.socket.recv(1)
    wait_until(lambda: f"POST {TRANSCRIPTIONS}" in logging_server.log[logged:])
    (line,) = [line for line in logging_server.log[logged:].splitlines() if f"POST {TRANSCRIPTIONS}" in line]
    entry = json.loads(line)
    assert (entry["status"], entry["ended"]) == (status, "disconnected")
    assert entry["audio_s"] > entry["done_s"]


def test_no_transcript_is_in_the_log(logging_server: Running) -> None:
    fields = {"prompt": PROMPT, "hotwords": HOTWORDS}
    answers = [
        logging_server.transcribe(SPEECH, key=KEY),
        logging_server.transcribe(SPEECH, {**fields, "response_format": "verbose_json"}, key=KEY),
        logging_server.transcribe(SPEECH, {**fields, "stream": "true"}, key=KEY),
        logging_server.transcribe(SPEECH, {**fields, "condition_on_previous_text": "true"}, key=KEY),
        logging_server.transcribe(SPEECH, {**fields, "language": "xx"}, key=KEY),
        logging_server.transcribe(SPEECH, {**fields, "keywords[]": HOTWORDS + "<"}, key=KEY),
        logging_server.transcribe(b"no audio", fields, key=KEY),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400, 400, 400]
    entries(logging_server, answers[-1].headers["x-request-id"])
    texts = [answers[index].json()["text"] for index in (0, 1, 3)]
    words = {*re.findall(r"\w{5,}", f"{texts} {PROMPT} {HOTWORDS}".casefold())}
    assert words >= {"party", "zanzibar", "xylophonist"}
    assert [word for word in words if word in logging_server.log.casefold()] == []


def test_transcripts_are_logged_if_the_operator_asks_for_it() -> None:
    with serving(log_text=1) as running:
        marker = running.transcribe(SPEECH, {"prompt": f"{PROMPT}\nline"}).headers["x-request-id"]
        line = running.wait_for_line(rf".*\[{marker}\]\n")[0]
    assert f'prompt "{PROMPT}\\nline" text "{SPEECH_TEXT}" [' in line


def test_the_key_for_metrics_opens_nothing_else() -> None:
    with serving(metrics_key="for-prometheus", api_keys=f"lab {KEY}") as running:
        for path, key, status in [
            ("/metrics", "for-prometheus", 200),
            ("/metrics", KEY, 200),
            ("/metrics", "", 401),
            ("/v1/models", "for-prometheus", 401),
            ("/v1/models", KEY, 200),
        ]:
            assert running.get(path, key=key).status_code == status


def test_a_key_for_metrics_closes_them_where_all_else_is_open() -> None:
    with serving(metrics_key="for-prometheus") as running:
        assert running.get("/metrics").status_code == 401
        assert running.get("/metrics", key="for-prometheus").status_code == 200
        assert running.get("/v1/models").status_code == 200
        running.wait_for_line("GET /v1/models")
        assert re.findall(r"(\d+) +\S+ GET /metrics", running.log) == ["401"]  # it is asked for every few seconds
