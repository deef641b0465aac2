import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from server.logs import request_id, set_up


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test set logging up, and put back what was there: pytest's own handlers among it."""
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    levels = root.level, uvicorn.level
    monkeypatch.setattr(root, "handlers", [])
    yield
    root.setLevel(levels[0])
    uvicorn.setLevel(levels[1])


@contextmanager
def during(request: str) -> Iterator[None]:
    token = request_id.set(request)
    yield
    request_id.reset(token)


def fail() -> None:
    raise RuntimeError("the disk is full")


def test_a_line_of_text_has_time_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "text")
    logging.getLogger("server").info("%d windows", 3)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    3 windows\n", capsys.readouterr().err)


def test_a_line_of_text_names_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "text")
    with during("req_1"):
        logging.getLogger("server").info("heard")
    logging.getLogger("server").info("done")
    heard, done = capsys.readouterr().err.splitlines()
    assert heard.endswith(" heard [req_1]")
    assert done.endswith(" done")


def test_no_text_passes_for_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "text")
    forged = "\n12:00:00 INFO    all is well\r\x1b[2J\u2028\x85"
    with during("req_1"):
        logging.getLogger("server").info("heard %s", f"Grün {forged}")
        try:
            raise RuntimeError(forged)
        except RuntimeError:
            logging.getLogger("server").exception("failed")
    heard, failed, *trace = capsys.readouterr().err.split("\n")[:-1]
    assert heard.endswith(r"heard Grün \n12:00:00 INFO    all is well\r\x1b[2J\u2028\x85 [req_1]")
    assert failed.endswith("failed [req_1]")
    assert all(line.startswith("    ") and line.isprintable() for line in trace)


def test_a_line_of_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json")
    with during("req_2"):
        logging.getLogger("server.engine.engine").warning("Größe:\n%s", '"12"')
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    entry = json.loads(written)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "logger": "server.engine.engine",
        "message": 'Größe:\n"12"',
        "request_id": "req_2",
    }
    assert "Größe" in written


def test_a_line_of_json_carries_the_exception(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "json")
    try:
        fail()
    except RuntimeError:
        logging.getLogger("server").exception("failed")
    entry = json.loads(capsys.readouterr().err)
    assert (entry["level"], entry["message"], entry["request_id"]) == ("error", "failed", "-")
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("RuntimeError: the disk is full")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lesser_messages_are_left_out(capsys: pytest.CaptureFixture[str], level: str, written: list[str]) -> None:
    set_up(level, "json")
    for each in ("debug", "info", "warning", "error"):
        logging.getLogger("server").log(logging.getLevelNamesMapping()[each.upper()], "said")
    assert [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == written


def test_uvicorn_logs_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("debug", "text")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request")
    assert "Started" not in (errors := capsys.readouterr().err)
    assert "Invalid HTTP request" in errors


def test_setting_up_again_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", "text")
    set_up("info", "json")
    logging.getLogger("server").info("once")
    out, errors = capsys.readouterr()
    assert (out, errors.count("once")) == ("", 1)
