from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from server.api.gate.admission import (
    LITTLE_TEXT_BYTES,
    MAX_RETRY_S,
    SMALL_BYTES,
    TEXT_BYTES,
    Admission,
    AdmissionLimits,
    Ticket,
)
from server.api.gate.throughput import Throughput
from server.errors import RateLimited, SottoError, Unavailable
from server.settings import Settings

LARGE = SMALL_BYTES + 1
PLENTY = AdmissionLimits(
    requests=100,
    uploads=100,
    upload_bytes=1 << 40,
    spool_bytes=1 << 40,
    queue_s=1e6,
    client_requests=100,
    client_queue_s=1e6,
    audio_s=1000.0,
)


@dataclass
class Work:
    left_s: float = 0.0
    done_s: float = 0.0
    audio_s: float = 0.0
    wait_s: float | None = None
    run_s: float | None = None
    model: str = "demo"
    prompt: str = ""
    text: str = ""


class FixedSpeed(Throughput):
    """Ten seconds of audio a second."""

    value = 10.0


class AdmissionCase:
    """An admission with requests that stay until the test ends."""

    def __init__(self, stack: ExitStack, **limits: Any) -> None:
        self.spooled = 0
        self.admission = Admission(replace(PLENTY, **limits), spooled=lambda: self.spooled, speed=FixedSpeed())
        self._stack = stack

    def admit(self, client: str = "a", size: int = LARGE, *, left_s: float | None = None) -> Ticket:
        ticket = self._stack.enter_context(self.admission.admit(client, size))
        if left_s is not None:
            ticket.receive(0, more=False)
            ticket.follow(Work(left_s))
        return ticket

    def refused(self, client: str = "a", size: int = LARGE) -> SottoError:
        with pytest.raises(SottoError) as caught:
            self.admit(client, size)
        return caught.value


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_place_is_freed_however_its_request_ends(stack: ExitStack) -> None:
    case = AdmissionCase(stack, requests=1)
    for _ in range(2):
        with suppress(ZeroDivisionError), case.admission.admit("a", LARGE):
            assert isinstance(case.refused(), Unavailable)
            raise ZeroDivisionError
    assert case.admission.load().requests == 0
    assert case.admission.load().refused == {"requests": 2}


def test_the_text_of_all_forms_is_limited_but_little_text_is_always_accepted(stack: ExitStack) -> None:
    case = AdmissionCase(stack)
    with case.admission.admit("a", LARGE) as first:
        first.keep_text(TEXT_BYTES)
        second, third = case.admit(), case.admit()
        second.keep_text(LITTLE_TEXT_BYTES)
        with pytest.raises(Unavailable, match="text of forms"):
            second.keep_text(1)
    third.keep_text(LITTLE_TEXT_BYTES + 1)
    assert case.admission.load().refused == {"text": 1}


def test_the_last_eighth_is_for_small_uploads(stack: ExitStack) -> None:
    case = AdmissionCase(stack, requests=16)
    for _ in range(14):
        case.admit()
    assert "SOTTO_MAX_REQUESTS" in case.refused().message
    assert "SOTTO_MAX_REQUESTS" in case.refused(size=0).message  # unknown: it may be anything
    case.admit(size=SMALL_BYTES)
    case.admit(size=1)
    assert "SOTTO_MAX_REQUESTS" in case.refused(size=1).message


def test_fewer_than_eight_places_reserve_none(stack: ExitStack) -> None:
    case = AdmissionCase(stack, requests=7)
    for _ in range(7):
        case.admit()
    case.refused()


def test_uploads_count_until_they_are_whole(stack: ExitStack) -> None:
    case = AdmissionCase(stack, uploads=1)
    ticket = case.admit()
    ticket.receive(10, more=True)
    assert "SOTTO_MAX_UPLOADS" in case.refused().message
    ticket.receive(20, more=False)
    case.admit()


def test_uploads_share_the_disk_by_what_they_declare(stack: ExitStack) -> None:
    case = AdmissionCase(stack, upload_bytes=80 << 20)
    case.admit(size=60 << 20)
    assert "SOTTO_UPLOADS_MB" in case.refused(size=11 << 20).message
    case.admit(size=10 << 20)
    assert "SOTTO_UPLOADS_MB" in case.refused(size=LARGE).message
    case.admit(size=SMALL_BYTES)


def test_a_single_upload_may_exceed_the_disk_limit(stack: ExitStack) -> None:
    """How large one may be, another setting says."""
    case = AdmissionCase(stack, upload_bytes=1 << 20)
    ticket = case.admit(size=8 << 20)
    ticket.receive(9 << 20, more=True)
    case.refused(size=1)


def test_an_upload_without_a_length_is_refused_where_the_disk_ends(stack: ExitStack) -> None:
    case = AdmissionCase(stack, upload_bytes=8 << 20)
    other, ticket = case.admit(size=4 << 20), case.admit(size=0)
    ticket.receive(3 << 20, more=True)
    with pytest.raises(Unavailable, match="SOTTO_UPLOADS_MB"):
        ticket.receive((3 << 20) + 1, more=True)
    other.receive(4 << 20, more=False)  # as it declared


def test_decoded_audio_may_not_fill_its_disk(stack: ExitStack) -> None:
    case = AdmissionCase(stack, spool_bytes=800)
    case.spooled = 700
    assert "SOTTO_SPOOL_MB" in case.refused().message
    case.admit(size=1)
    case.spooled = 800
    case.refused(size=1)


def test_waiting_audio_counts_against_the_queue_until_it_is_transcribed(stack: ExitStack) -> None:
    case = AdmissionCase(stack, queue_s=100.0)
    case.admit(left_s=60.0)
    ticket = case.admit(left_s=60.0)  # how long it is was not known before
    error = case.refused("b")
    assert isinstance(error, Unavailable)
    assert "SOTTO_MAX_QUEUE_SECONDS" in error.message
    ticket.work = Work(left_s=30.0)
    case.admit("b")


def test_small_uploads_wait_for_short_recordings_only(stack: ExitStack) -> None:
    case = AdmissionCase(stack, queue_s=100.0, client_queue_s=50.0)
    case.admit(size=1, left_s=1000.0)  # a few bytes can hold hours
    case.admit(size=1, left_s=40.0)
    assert isinstance(case.refused("b"), Unavailable)
    case.admit(size=1, left_s=40.0)
    assert isinstance(case.refused(size=1), RateLimited)
    case.admit("b", size=1, left_s=40.0)
    assert isinstance(case.refused("b", size=1), Unavailable)


def test_a_claimed_duration_counts_up_to_the_limit(stack: ExitStack) -> None:
    case = AdmissionCase(stack, queue_s=1001.0, audio_s=1000.0)
    case.admit(left_s=1e9)
    case.admit()
    assert case.admission.load().audio_s == 1000.0


def test_a_client_s_limits_are_its_own(stack: ExitStack) -> None:
    case = AdmissionCase(stack, client_requests=2, client_queue_s=100.0)
    case.admit()
    case.admit()
    error = case.refused()
    assert isinstance(error, RateLimited)
    assert error.message == "Rate limit reached: concurrent requests. Limit: 2. Please try again in 1s."
    case.admit("b", left_s=100.0)
    assert case.refused("b").message.startswith("Rate limit reached: seconds of audio waiting. Limit: 100.")
    case.admit("c")


@pytest.mark.parametrize(
    ("left", "retry_s"),
    [
        ([0.0], 1),
        ([200.0], 20),
        ([20.0, 20.0, 20.0], 6),
        ([20.0, 10_000.0, 10_000.0], 60),  # half: the second ends with the third
        ([1000.0, 1000.0, 20.0, 20.0], 8),  # they take turns: the short ones are through after 4 x 20 s
    ],
)
def test_retry_after_is_when_half_the_work_will_be_done(stack: ExitStack, left: list[float], retry_s: int) -> None:
    case = AdmissionCase(stack, requests=len(left))
    for left_s in left:
        case.admit(left_s=left_s)
    error = case.refused()
    assert error.retry_after_s == retry_s
    assert error.message.endswith(f"Please try again in {retry_s}s.")


def test_arriving_uploads_are_estimated_by_earlier_ones(stack: ExitStack) -> None:
    case = AdmissionCase(stack, requests=2)
    for done_s in (30.0, 50.0):
        with case.admission.admit("a", LARGE) as ticket:
            ticket.follow(Work(done_s=done_s))
    case.admit()
    case.admit()
    assert case.refused().retry_after_s == 8


def test_retry_after_waits_for_no_more_audio_than_is_too_much(stack: ExitStack) -> None:
    case = AdmissionCase(stack, queue_s=500.0)
    case.admit(left_s=800.0)
    assert case.refused().retry_after_s == 30


def test_retry_after_is_within_what_clients_obey(stack: ExitStack) -> None:
    case = AdmissionCase(stack, requests=1)
    case.admit(left_s=1000.0)
    assert case.refused().retry_after_s == MAX_RETRY_S


def test_retry_after_has_a_default_before_anything_is_measured(stack: ExitStack) -> None:
    admission = Admission(replace(PLENTY, requests=1))
    ticket = stack.enter_context(admission.admit("a", 1))
    ticket.follow(Work(left_s=1000.0))
    with pytest.raises(Unavailable) as caught, admission.admit("b", 1):
        pass
    assert caught.value.retry_after_s == Unavailable.retry_after_s


def test_speed_is_measured_over_requests_that_are_there_and_gone() -> None:
    admission = Admission(PLENTY)
    with admission.admit("a", 1) as ticket:
        ticket.follow(Work(done_s=10.0))
        assert admission.load().speed > 0
        with admission.admit("a", 1) as other:
            other.follow(Work(done_s=5.0))
    speed = admission.load().speed
    assert speed > 0
    assert admission.load().speed == speed  # idle time doesn't count


@pytest.mark.parametrize(
    ("cpus", "requests", "queue_s"),
    [(1, 32, 3600.0), (2, 64, 7200.0), (16, 256, 14_400.0), (None, 256, 14_400.0)],
)
def test_limits_come_from_the_device(cpus: int | None, requests: int, queue_s: float) -> None:
    limits = AdmissionLimits.of(Settings(), cpus=cpus)
    assert (limits.requests, limits.queue_s) == (requests, queue_s)
    assert (limits.client_requests, limits.client_queue_s) == (requests // 2, queue_s / 2)
    assert limits.uploads == requests


def test_limits_that_are_set_are_taken() -> None:
    settings = Settings(
        max_requests=5,
        max_requests_per_client=4,
        max_uploads=3,
        max_queue_seconds=2,
        max_queue_seconds_per_client=1,
        uploads_mb=7,
    )
    limits = AdmissionLimits.of(settings, cpus=64)
    assert (limits.requests, limits.client_requests, limits.uploads) == (5, 4, 3)
    assert (limits.queue_s, limits.client_queue_s, limits.upload_bytes) == (2, 1, 7 << 20)
