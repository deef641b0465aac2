"""Parses how long an idle model stays loaded, in the syntax of Ollama's `keep_alive`: 300, "5m", "1h30m", 0, -1.

That is Go's syntax of durations; pydantic's and the standard library's is ISO 8601.
"""

import math
import re

FOREVER = math.inf

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_NUMBER = re.compile(r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})", re.ASCII)
_PART = re.compile(r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(h|ms|us|µs|ns|m|s)", re.ASCII)
_MOST_CHARACTERS = 100


def parse(text: str) -> float:
    """Seconds; `FOREVER` for any negative value. Raises ValueError that lists the valid forms."""
    text = text.strip()
    sign, magnitude = (text[0], text[1:]) if text[:1] in {"+", "-"} else ("", text)
    if len(text) <= _MOST_CHARACTERS and _NUMBER.fullmatch(text):
        seconds = float(magnitude)
    elif len(text) <= _MOST_CHARACTERS and re.fullmatch(f"(?:{_PART.pattern})+", magnitude):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(magnitude))
    else:
        raise ValueError("must be a number of seconds or a duration such as '5m' or '1h30m' (negative: forever)")
    return FOREVER if sign == "-" and seconds > 0 else seconds
