"""Thousands of broken files: each ends in an answer in time, and leaves nothing behind."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.audio.media_decoder import MediaDecoder
from server.audio.workers import MediaWorkers
from server.errors import InvalidRequest
from server.options import VadOptions
from server.quota import Quota
from server.settings import Settings
from server.system.machine import children_of
from tests.support.fakes import DEADLINE_S, FakeEngine, upload, wait_until
from tests.support.hostile import hostile
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="media workers need Linux"),
    pytest.mark.timeout(3 * 3600),
]

AT_ONCE = 3
PORTION = 200
LONGEST_S = 600.0
MEGABYTE = 1 << 20
OWN_GROWTH_BYTES = 24 * MEGABYTE
FORKER_GROWTH_BYTES = 4 * MEGABYTE
WARM_UP = range(900_000, 900_030)


@pytest.fixture(scope="module")
def workers() -> Iterator[MediaWorkers]:
    workers = MediaWorkers(memory_bytes=256 * MEGABYTE, timeout_s=DEADLINE_S / 2)
    yield workers
    workers.close()


@pytest.fixture(scope="module")
def media(workers: MediaWorkers) -> Iterator[MediaDecoder]:
    with closing(
        MediaDecoder(workers, workers=AT_ONCE, spool=Quota.halved(256 * MEGABYTE), max_audio_s=LONGEST_S)
    ) as media:
        media.wait_until_ready()
        yield media


@pytest.fixture(scope="module")
def client(media: MediaDecoder) -> Iterator[TestClient]:
    served = served_model(FakeEngine(), ("demo",), ("en",))
    with TestClient(create_app(Settings(), registry_of(served), media)) as client:
        yield client


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def outcome(media: MediaDecoder, number: int) -> str:
    """What becomes of a broken file: `ok` or the error it is told; anything else fails the test."""
    with upload(hostile(number)) as source:
        recording = media.open(source, VadOptions(), on_window=lambda _: None, mels=80)
        error = recording.finished.exception(DEADLINE_S)
        recording.close()
    if error is None:
        assert 0.1 <= recording.finished.result() <= LONGEST_S
        return "ok"
    assert isinstance(error, InvalidRequest), (number, error)
    return str(error).removeprefix("The audio file could not be decoded or its format is not supported. ")


@pytest.mark.parametrize(
    "numbers",
    [
        range(400),
        pytest.param(range(2_000), marks=pytest.mark.slow),
        pytest.param(range(10_000), marks=pytest.mark.soak),
    ],
    ids=len,
)
def test_broken_files_end_in_an_answer_and_leave_nothing(
    media: MediaDecoder, workers: MediaWorkers, numbers: range
) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: outcome(media, number), WARM_UP))
        files = len(os.listdir("/proc/self/fd"))
        before, forker, begun = resident_bytes(os.getpid()), resident_bytes(workers.pid), time.monotonic()
        outcomes: Counter[str] = Counter()
        for start in range(0, len(numbers), PORTION):  # the pool keeps something of each until the last is through
            outcomes.update(pool.map(lambda number: outcome(media, number), numbers[start : start + PORTION]))
    grown, forker_grown = resident_bytes(os.getpid()) - before, resident_bytes(workers.pid) - forker
    wait_until(lambda: not children_of(workers.pid))
    assert len(os.listdir("/proc/self/fd")) == files
    assert media.spooled_bytes == 0
    assert grown < OWN_GROWTH_BYTES
    assert forker_grown < FORKER_GROWTH_BYTES
    took_s = time.monotonic() - begun
    print(f"{len(numbers)} files in {took_s:.0f} s; grown: {grown >> 10} and {forker_grown >> 10} KiB")
    for each, count in outcomes.most_common():
        print(f"{count:6} {each}")


@pytest.mark.parametrize(
    "numbers",
    [range(400, 460), pytest.param(range(2_000, 2_300), marks=pytest.mark.slow)],
    ids=len,
)
def test_broken_uploads_are_answered_in_the_envelope(client: TestClient, numbers: range) -> None:
    for number in numbers:
        answer = client.post(TRANSCRIPTIONS, data={"model": "whisper-1"}, files={"file": hostile(number)})
        check(answer)


def check(answer: httpx2.Response) -> None:
    if answer.status_code == 200:
        assert set(answer.json()) == {"text", "usage"}
        return
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", "file")
