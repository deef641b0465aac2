import math

import pytest

from server.keep_alive import FOREVER, parse


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300),
        (" 300 ", 300),
        ("0", 0),
        ("0s", 0),
        ("-0", 0),
        ("+5", 5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("2m0.5s", 120.5),
        ("-1", FOREVER),
        ("-1m", FOREVER),
        ("-0.1", FOREVER),
    ],
)
def test_durations_are_written_as_for_ollama(text: str, seconds: float) -> None:
    assert math.isclose(parse(text), seconds)


@pytest.mark.parametrize(
    "text",
    ["", "m", "5 m", "5d", "m5", "5m3", "1e3", "inf", "nan", "-", "--1", "5M", "٣", "1" * 200, "1h" * 10_000],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds or a duration such as '5m'"):
        parse(text)
