"""Files broken on purpose, any number of them, the same ones each time: `hostile(n)` is the n-th."""

import random
import struct
from collections.abc import Callable
from functools import cache

from tests.audio.test_decode import COMPRESSED, UNCOMPRESSED
from tests.support.bad_inputs import BAD_INPUTS, DATA, encode

RECORDINGS = "en_14.mp3 en_15.m4a en_16.ogg en_17.webm en_18.flac en_19.mp4".split()
HEAD_BYTES = 512  # where most that a parser believes is written
ODD_NUMBERS = (0, 1, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)


@cache
def originals() -> tuple[bytes, ...]:
    """The speech in every container and codec that the tests have, and what is odd already."""
    made = [
        encode(None, container, codec, rate=rate, bit_rate=64_000 if codec == "wmav2" else None)
        for container, codec, rate, *_ in [*UNCOMPRESSED, *COMPRESSED]
    ]
    odd = [bad.build() for bad in BAD_INPUTS.values() if bad.outcome == "ok"]
    return (*made, *odd, *((DATA / name).read_bytes() for name in RECORDINGS))


def hostile(number: int) -> bytes:
    """An original after one to three mutations."""
    chance = random.Random(number)  # noqa: S311 - to be repeated, not to be secret
    originals_left = originals()
    data = originals_left[number % len(originals_left)]
    for _ in range(chance.randint(1, 3)):
        data = chance.choice(MUTATIONS)(data, chance)
    return data


def flip(data: bytes, chance: random.Random) -> bytes:
    """Some bits."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 4, 16, 64])):
        if changed:
            changed[_place(changed, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def put_numbers(data: bytes, chance: random.Random) -> bytes:
    """Sizes and counts that lie."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 2, 8])):
        if len(changed) > 8:
            place = min(_place(changed, chance), len(changed) - 4)
            changed[place : place + 4] = struct.pack(chance.choice("<>") + "I", chance.choice(ODD_NUMBERS))
    return bytes(changed)


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)] if data else data


def splice(data: bytes, chance: random.Random) -> bytes:
    """One file's head and another one's body."""
    other = chance.choice(originals())
    return data[: _place(data, chance)] + other[_place(other, chance) :] if data else other


def repeat(data: bytes, chance: random.Random) -> bytes:
    start, end = _stretch(data, chance)
    return data[:end] + data[start:end] * chance.choice([1, 2, 20]) + data[end:]


def cut_out(data: bytes, chance: random.Random) -> bytes:
    start, end = _stretch(data, chance)
    return data[:start] + data[end:]


def put_noise(data: bytes, chance: random.Random) -> bytes:
    start, end = _stretch(data, chance)
    return data[:start] + chance.randbytes(end - start) + data[end:]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip,
    flip,
    put_numbers,
    truncate,
    splice,
    repeat,
    cut_out,
    put_noise,
)


def _place(data: bytes | bytearray, chance: random.Random) -> int:
    """Every other time in the head."""
    return chance.randrange(min(len(data), HEAD_BYTES) if chance.random() < 0.5 else len(data))


def _stretch(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = _place(data, chance) if data else 0
    return start, min(len(data), start + chance.choice([1, 4, 64, 2_000]))
