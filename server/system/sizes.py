"""Sizes in words: files in decimal units, as disks are labeled; memory in binary units, as in its settings."""

from typing import Literal

Unit = Literal["MB", "GB", "MiB", "GiB"]

UNIT_BYTES: dict[Unit, int] = {"MB": 10**6, "GB": 10**9, "MiB": 1 << 20, "GiB": 1 << 30}
FORMATS: dict[Unit, str] = {"MB": ",.1f", "GB": ".1f", "MiB": ".0f", "GiB": ".1f"}


def in_words(size_bytes: float, unit: Unit) -> str:
    return f"{size_bytes / UNIT_BYTES[unit]:{FORMATS[unit]}} {unit}"
