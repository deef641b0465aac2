import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

import numpy as np
import pytest

from server.audio.mel import loudest, mel_filters
from server.audio.messages import Decoded, Done, Message, Opened, WindowFound
from server.audio.scanner import Scanner
from server.audio.spool import SpoolFile
from server.options import ScanOptions, VadOptions
from server.transcript import MAX_WINDOW_S, SAMPLE_RATE, Span, Window
from tests.conftest import samples_of
from tests.support.fakes import Samples, tone, upload

PIECE = int(MAX_WINDOW_S * SAMPLE_RATE)


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner()


@contextmanager
def scanned(
    scanner: Scanner, source: str | Samples, *, mels: int = 0, stop: threading.Event | None = None
) -> Iterator[tuple[SpoolFile, Iterator[Message]]]:
    options = ScanOptions(VadOptions(), limit_s=3600, mels=mels)
    with upload(source) as file, TemporaryFile() as disk:
        spool = SpoolFile(disk.fileno())
        yield spool, scanner.scan(file.fd, spool, options, stop or threading.Event())


def test_messages_come_in_order_and_end_with_the_count(scanner: Scanner) -> None:
    with scanned(scanner, "two_minutes.mp3") as (spool, messages):
        first, *others, last = messages
        assert isinstance(first, Opened)
        counts = [message.samples for message in others if isinstance(message, Decoded)]
        assert counts == [*range(160_000, 1_900_000, 160_000), spool.samples]
        reached = 0
        for message in others:
            if isinstance(message, Decoded):
                reached = message.samples
            elif isinstance(message, WindowFound):
                assert message.window.end <= reached
        assert last == Done(len(samples_of("two_minutes.mp3")), None)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("source", ["en_00.wav", "two_minutes.mp3", tone(60.01), tone(60), tone(89.99), tone(30)])
def test_the_loudest_value_is_that_of_the_whole_file(scanner: Scanner, source: str | Samples, mels: int) -> None:
    with scanned(scanner, source, mels=mels) as (spool, messages):
        *_, last = messages
        starts = range(0, spool.samples, PIECE)
        pieces = [Window(0, (Span(start, min(start + PIECE, spool.samples)),)) for start in starts]
        assert last == Done(spool.samples, max(loudest(spool.load(piece), mel_filters(mels)) for piece in pieces))


def test_decoding_stops_when_it_is_cancelled(scanner: Scanner) -> None:
    stop = threading.Event()
    with scanned(scanner, np.tile(tone(10), 6), stop=stop) as (spool, messages):
        assert isinstance(next(messages), Opened)
        assert next(messages) == Decoded(160_000)
        stop.set()
        assert not any(isinstance(message, Decoded | Done) for message in messages)
        assert spool.samples == 160_000
