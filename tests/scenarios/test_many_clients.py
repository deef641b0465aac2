"""A thousand clients at once: everybody gets an answer, /health among them, and memory stays as it was.

Run with -s, it prints its figures.
"""

import asyncio
import math
import resource
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.support.bad_inputs import DATA
from tests.support.fakes import wait_until
from tests.support.greedy import body_of, long_file
from tests.support.serving import TRANSCRIPTIONS, Running, serving
from tests.support.wire import content_type, field, file, form

CLIENTS = 1000
ADDRESSES = 50  # of the loopback network: each is a client of its own
GREEDY_ADDRESSES = 3
FILES_EACH = 2
SPEECH = "en_02.wav"
BODY = form(field("model", "whisper-1"), file((DATA / SPEECH).read_bytes()))
POLL_S = 0.05
HEALTH_S = 5.0  # a hundred times the goal: this machine has two cores, and a thousand clients run on it as well
GROWTH_MB = 300
ALL_S = 500.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    retry_after_s: int | None
    seconds: float


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open two files for each client, and so may the server that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES_EACH * CLIENTS
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"a process may open {hard} files here, not {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def exchange(url: str, request: bytes, address: str) -> Reply:
    """One request on a connection of its own, sent whole before the answer is looked at."""
    target = urlsplit(url)
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(target.hostname, target.port, local_addr=(address, 0))
    try:
        writer.write(request)
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
    finally:
        writer.close()
    retry = headers.get("retry-after")
    return Reply(int(lines[0].split()[1]), int(retry) if retry else None, time.monotonic() - began)


async def ask(url: str, number: int) -> Reply:
    return await post(url, BODY, f"127.0.1.{1 + number % ADDRESSES}")


async def post(url: str, body: bytes, address: str) -> Reply:
    head = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type()}\r\n"
    return await exchange(url, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, address)


async def watch(url: str, server: Running, health: list[Reply], memory_mb: list[float]) -> None:
    """Asks for /health, over and over; and how much memory the main process has."""
    while True:
        health.append(await exchange(url, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.0.1"))
        memory_mb.append(server.resident_mb())
        await asyncio.sleep(POLL_S)


async def crowd(server: Running) -> tuple[list[Reply], list[Reply], list[float]]:
    health: list[Reply] = []
    memory_mb: list[float] = []
    url = server.base_url
    watching = asyncio.create_task(watch(url, server, health, memory_mb))
    async with asyncio.timeout(ALL_S):
        replies = await asyncio.gather(*(ask(url, number) for number in range(CLIENTS)))
    assert not watching.done(), "a health check failed"
    watching.cancel()
    return replies, health, memory_mb


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_clients_at_once_get_an_answer_each(many_files: None) -> None:
    with serving(log_level="warning") as server:
        server.transcribe(SPEECH)
        before_mb = server.resident_mb()
        began = time.monotonic()
        replies, health, memory_mb = asyncio.run(crowd(server))
        report(replies, health, memory_mb, before_mb, time.monotonic() - began)
        assert {reply.status for reply in replies} <= {200, 429, 503}
        assert all((reply.retry_after_s or 0) in range(1, 61) for reply in replies if reply.status != 200)
        assert sum(reply.status == 200 for reply in replies) >= 32
        assert {reply.status for reply in health} == {200}
        assert max(reply.seconds for reply in health) < HEALTH_S
        assert max(memory_mb) < before_mb + GROWTH_MB
        wait_until(lambda: server.metric("sotto_requests") == 0)
        assert server.transcribe(SPEECH).status_code == 200


async def half_greedy_crowd(url: str) -> tuple[list[Reply], list[asyncio.Task[Reply]]]:
    """Half of the clients send files of twelve hours, from a few addresses; then the others send a clip each."""
    long = body_of(long_file(65_535))
    greedy = [
        asyncio.create_task(post(url, long, f"127.0.2.{1 + number % GREEDY_ADDRESSES}"))
        for number in range(CLIENTS // 2)
    ]
    async with asyncio.timeout(ALL_S):
        done = await asyncio.wait(greedy, return_when=asyncio.FIRST_COMPLETED)
        assert done[0], "more files were accepted than one client may have"
        replies = await asyncio.gather(*(ask(url, number) for number in range(CLIENTS // 2)))
    for task in greedy:
        task.cancel()
    await asyncio.gather(*greedy, return_exceptions=True)
    return replies, greedy


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_crowd_of_greedy_clients_leaves_places_to_the_others(many_files: None) -> None:
    with serving(log_level="warning") as server:
        server.transcribe(SPEECH)
        began = time.monotonic()
        replies, greedy = asyncio.run(half_greedy_crowd(server.base_url))
        statuses = Counter(reply.status for reply in replies)
        refused = Counter(task.result().status for task in greedy if not task.cancelled() and not task.exception())
        print(f"\nin {time.monotonic() - began:.1f} s: {dict(statuses)}; greedy ones: {dict(refused)}, others held")
        assert set(statuses) <= {200, 503}
        assert statuses[200] >= 4
        assert set(refused) <= {429, 503}
        wait_until(lambda: server.metric("sotto_requests") == 0)
        assert server.transcribe(SPEECH).status_code == 200


def report(
    replies: list[Reply], health: list[Reply], memory_mb: list[float], before_mb: float, seconds: float
) -> None:
    statuses = Counter(reply.status for reply in replies)
    latencies = sorted(reply.seconds for reply in health)
    p99 = latencies[math.ceil(0.99 * len(latencies)) - 1]
    refused = [reply.seconds for reply in replies if reply.status != 200] or [0.0]
    retries = [reply.retry_after_s for reply in replies if reply.retry_after_s] or [0]
    print(f"\n{len(replies)} clients in {seconds:.1f} s: {dict(statuses)}")
    print(f"refused after {statistics.median(refused):.2f} s (median), {max(refused):.2f} s at most")
    print(f"Retry-After {min(retries)} to {max(retries)} s")
    print(f"/health {len(health)} times: p50 {latencies[len(latencies) // 2]:.3f} s, p99 {p99:.3f} s")
    print(f"memory of the main process: {before_mb:.0f} MB before, {max(memory_mb):.0f} MB at most")
