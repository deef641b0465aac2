"""Logging: lines on stderr, each with the id of the request it belongs to."""

import json
import logging
import sys
import time
import uuid
from contextvars import ContextVar
from typing import Any, Literal

request_id: ContextVar[str] = ContextVar("request_id", default="-")


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line; a record's `fields`, if any, become its fields.

    Letters of any script stay readable; what would move a terminal's cursor or reverse its text is escaped.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        text = json.dumps(entry, ensure_ascii=False)
        return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


class TextFormatter(logging.Formatter):
    """Time, level, message, and the request id in brackets, if there is one.

    Client text can't imitate a log line: each message is one line, and tracebacks are indented.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        current = request_id.get()
        text = super().formatMessage(record) + ("" if current == "-" else f" [{current}]")
        return _shown(text)

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"    {_shown(line)}" for line in super().formatException(ei).splitlines())


def _shown(text: str) -> str:
    """`text` with characters that would break a line, or move a terminal's cursor, escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def set_up(level: str, style: Literal["text", "json"]) -> None:
    """Send all logging to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    text = TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # uvicorn's lines about start and stop duplicate ours, and access is logged by the gate.
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLogger().level))
