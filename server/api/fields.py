"""The fields of a form, in every spelling that clients use; `forms` interprets them.

`x` is also read from `x[]`, `x[][]`, `x[0]`, and `extra_body[x]`, which openai-node makes of a literal
`extra_body`; a list also from one JSON array; an object from `x[key]` or from one JSON object.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from starlette.datastructures import UploadFile

from server.errors import InvalidRequest

YES = frozenset({"true", "1", "yes", "on"})
NO = frozenset({"false", "0", "no", "off"})
UNSET = frozenset({"", "null", "None", "undefined"})  # how clients serialize a missing value

MAX_JSON_ENTRIES = 1_000

_SPELLING = re.compile(r"(?:extra_body\[(\w+)(?:\[\])?\]|(\w+))((?:\[\w*\])*)")
_KEY = re.compile(r"\[([^\W\d]\w*)\]")  # an array index is not a key

Choice = TypeVar("Choice", bound=str)
Value = str | UploadFile


class Fields:
    """The text fields of a form, by the names `x` and `x[key]`; an empty one counts as absent.

    Every method raises `InvalidRequest` naming the field if its value has the wrong type or is out of range.
    """

    def __init__(self, pairs: Iterable[tuple[str, Value]]) -> None:
        self._values: defaultdict[str, list[Value]] = defaultdict(list)
        for spelling, value in pairs:
            name = _name(spelling)
            if not isinstance(value, str):
                self._values[name].append(value)
            elif (text := value.strip()) not in UNSET:
                self._values[name].append(text)

    def __len__(self) -> int:
        return len(self._values)

    def text(self, name: str) -> str:
        """Return the last value of a field, or an empty string."""
        texts = self._texts(name)
        return texts[-1] if texts else ""

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if not value:
            return default
        if value.lower() not in YES | NO:
            raise invalid(name, f"'{name}' must be 'true' or 'false', not {quoted(value)}.")
        return value.lower() in YES

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self.text(name)
        number = _float(value) if value else float(default)
        if not low <= number <= high:
            raise invalid(name, f"'{name}' must be a number between {low} and {high}, not {quoted(value)}.")
        return number

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        number = self.number(name, default, low, high)
        if not number.is_integer():
            raise invalid(name, f"'{name}' must be a whole number, not {quoted(self.text(name))}.")
        return int(number)

    def choice(self, name: str, allowed: tuple[Choice, ...], default: Choice) -> Choice:
        value = self.text(name)
        return _known(name, value, allowed) if value else default

    def choices(self, name: str, allowed: tuple[Choice, ...]) -> frozenset[Choice]:
        return frozenset(_known(name, value, allowed) for value in self.items(name))

    def items(self, name: str) -> list[str]:
        """Return the values of a list without duplicates."""
        return list(dict.fromkeys(item for value in self._texts(name) for item in _listed(name, value)))

    def members(self, name: str) -> "Fields":
        """Return the members of an object as fields `name[key]`; separate parts override those in JSON."""
        value = self.text(name)
        listed = _parsed(name, value).items() if value.startswith("{") else ()
        in_json = [(f"{name}[{key}]", _unicode(str(member))) for key, member in listed]
        in_parts = [
            (field, part) for field, parts in self._values.items() if field.startswith(f"{name}[") for part in parts
        ]
        return Fields([*in_json, *in_parts])

    def _texts(self, name: str) -> list[str]:
        texts: list[str] = []
        for value in self._values.get(name, ()):
            if not isinstance(value, str):
                raise invalid(name, f"'{name}' must be text, not a file.")
            texts.append(value)
        return texts


def invalid(name: str, message: str) -> InvalidRequest:
    """Return the error for a bad value of field `name`."""
    return InvalidRequest(message, param=name.partition("[")[0], code="invalid_value")


def quoted(value: str) -> str:
    """Quote a value that a client sent, shortened for an error message."""
    return repr(value if len(value) <= 60 else f"{value[:60]}…")


def listing(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _name(spelling: str) -> str:
    """Normalize a field name: `x` for every spelling of it, `x[key]` for a member; other names stay unchanged."""
    match = _SPELLING.fullmatch(spelling)
    if not match:
        return spelling
    nested, plain, brackets = match.groups()
    return (nested or plain) + "".join(f"[{key}]" for key in _KEY.findall(brackets))


def _known(name: str, value: str, allowed: tuple[Choice, ...]) -> Choice:
    for each in allowed:
        if value == each:
            return each
    raise invalid(name, f"'{name}' must be one of {listing(allowed)}, not {quoted(value)}.")


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _listed(name: str, value: str) -> Iterator[str]:
    if not value.startswith("["):
        yield value
        return
    for entry in _parsed(name, value):
        if not isinstance(entry, str):
            raise invalid(name, f"'{name}' must be a list of strings.")
        if text := _unicode(entry).strip():
            yield text


def _parsed(name: str, value: str) -> Any:
    """Parse JSON; raises `InvalidRequest` if it is invalid, too long or nested too deeply."""
    if sum(value.count(mark) for mark in "[{,") > MAX_JSON_ENTRIES:
        raise invalid(name, f"'{name}' has more than {MAX_JSON_ENTRIES} entries.")
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise invalid(name, f"'{name}' is not valid JSON: {error}") from error


def _unicode(text: str) -> str:
    """Return `text` without lone surrogates, which JSON can spell but no encoding can write."""
    return text.encode(errors="replace").decode()
