"""A client's share on a real server: whatever greedy clients send, a modest one is answered as if they were few.

Run with -s, the tests print their figures.
"""

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.bad_inputs import wav
from tests.support.fakes import wait_until
from tests.support.greedy import Greedy, body_of, long_file, long_files, readable, sent
from tests.support.serving import Running, serving

MODEST = "modest-0123456789"
GREEDY = [f"greedy-{number}-0123456789" for number in range(10)]
KEYS = ", ".join([f"modest {MODEST}", *(f"greedy{number} {key}" for number, key in enumerate(GREEDY))])
CLIP = "en_00.wav"
CLIPS = 7  # medians count
FACTOR, SLACK_S = 3.0, 2.0  # of the idle time; other programs run on this machine as well

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def shared(**settings: object) -> Iterator[Running]:
    with serving(api_keys=KEYS, log_level="warning", **settings) as server:
        clip_s(server)  # caches and allocators fill
        yield server


def clip_s(server: Running) -> float:
    """Seconds to the answer for a clip of the modest client, which must be a transcript: the median of some."""
    times = []
    for _ in range(CLIPS):
        began = time.monotonic()
        answer = server.transcribe(CLIP, key=MODEST)
        times.append(time.monotonic() - began)
        assert answer.status_code == 200, answer.text
    return statistics.median(times)


def silence(megabytes: int) -> bytes:
    return wav(bytes(megabytes << 20))


@pytest.mark.parametrize(
    ("frame", "clients"), [(192, 1), (192, 10), (65_535, 10)], ids=["3 MB, one key", "3 MB, ten keys", "10 kB, ten"]
)
def test_a_clip_waits_for_no_long_files_of_others(frame: int, clients: int) -> None:
    """Without turns, two files of twelve hours hold all other clients up until they are decoded."""
    with shared(max_queue_seconds=1e7) as server:
        before_s = clip_s(server)
        beside_s = {}
        for count in (1, 2, 3, 10):
            with long_files(server, [GREEDY[number % clients] for number in range(count)], long_file(frame)):
                beside_s[count] = clip_s(server)
        idle_s = max(before_s, clip_s(server))
        print(f"\nidle {idle_s:.2f} s", {count: f"{seconds:.2f} s" for count, seconds in beside_s.items()})
        assert max(beside_s.values()) <= FACTOR * idle_s + SLACK_S


def test_of_many_long_files_at_once_those_above_the_client_s_share_are_rejected() -> None:
    with shared(max_queue_seconds=7200) as server, ExitStack() as stack:
        body = body_of(long_file())
        asked = [stack.enter_context(sent(server, body, GREEDY[0])) for _ in range(20)]
        statuses: Counter[int] = Counter()

        def all_decided() -> bool:
            for connection in readable(asked):
                asked.remove(connection)
                statuses[connection.answer().status] += 1
            return server.metric("sotto_requests", key=MODEST) == len(asked)

        wait_until(all_decided)
        assert set(statuses) == {429}
        assert len(asked) <= 3600 / (len(body) / 8000) + 1
        for megabytes in (3, 10):
            assert server.transcribe(silence(megabytes), key=MODEST).status_code == 200


def test_uploads_that_are_declared_and_not_sent_keep_no_other_client_out() -> None:
    with shared(max_queue_seconds=1e7) as server, ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(sent(server, b"-----", GREEDY[0], length=1 << 30))
        wait_until(lambda: server.metric("sotto_uploads", key=MODEST) == 7)
        assert server.transcribe(silence(3), key=MODEST).status_code == 200


@pytest.mark.parametrize("seed", range(3))
def test_whatever_greedy_clients_send_a_clip_of_another_is_answered(seed: int) -> None:
    """The property that all shares are for."""
    with shared() as server:
        before_s = clip_s(server)
        clients = [Greedy(server, key, 100 * seed + number) for number, key in enumerate(GREEDY[: 2 * seed + 1])]
        try:
            wait_until(lambda: server.metric("sotto_requests", key=MODEST) > len(clients))
            beside_s = clip_s(server)
        finally:
            for client in clients:
                client.stop()
        wait_until(lambda: server.metric("sotto_requests", key=MODEST) == 0)
        idle_s = max(before_s, clip_s(server))
        answers = [dict(client.statuses) for client in clients]
        print(f"\n{len(clients)} greedy: idle {idle_s:.2f} s, beside them {beside_s:.2f} s; they got {answers}")
        assert beside_s <= FACTOR * idle_s + SLACK_S
        assert any(client.statuses for client in clients)
