import asyncio
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive

from server.api.gate.admission import Admission, AdmissionLimits, Ticket
from server.api.gate.request_body import RequestBody
from server.api.gate.upload_pace import Pace, PacedReceive
from server.errors import RequestTimeout, UploadTooSlow
from server.settings import Settings

pytestmark = pytest.mark.anyio

PATIENCE_S = 0.3
SOON_S = 10.0


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


class Body:
    """Parts that come after a while each; then nothing."""

    def __init__(self, part: bytes, every_s: float, parts: int) -> None:
        self._part, self._every_s, self._left = part, every_s, parts

    async def receive(self) -> Message:
        if not self._left:
            return await never()
        self._left -= 1
        await asyncio.sleep(self._every_s)
        return {"type": "http.request", "body": self._part, "more_body": True}


@pytest.fixture
def ticket() -> Iterator[Ticket]:
    with Admission(AdmissionLimits.of(Settings(), cpus=1)).admit("a", 0) as admitted:
        yield admitted


def paced(receive: Receive, ticket: Ticket, pace: Pace) -> PacedReceive:
    body = RequestBody({"headers": []}, receive)
    return PacedReceive(body.receive, body, ticket, pace)


async def read_all(intake: PacedReceive) -> int:
    """How many parts came until it raised."""
    count = 0
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                await intake()
            except UploadTooSlow:
                return count
            count += 1


async def test_a_stalled_upload_times_out(ticket: Ticket) -> None:
    assert await read_all(paced(Body(b"x" * 1000, 0, 5).receive, ticket, Pace(1000, PATIENCE_S))) == 5


async def test_a_dripping_upload_times_out(ticket: Ticket) -> None:
    count = await read_all(paced(Body(b"x", 0.01, 10_000).receive, ticket, Pace(1000, PATIENCE_S)))
    assert 2 < count < 10 * PATIENCE_S / 0.01


async def test_an_upload_that_is_fast_enough_may_take_any_time(ticket: Ticket) -> None:
    """Longer than its patience, in the end; only the silence behind the last part is too much."""
    assert (
        await read_all(paced(Body(b"x" * 1000, PATIENCE_S / 4, 10).receive, ticket, Pace(1000, PATIENCE_S))) == 10
    )


async def test_a_fast_start_does_not_extend_the_patience(ticket: Ticket) -> None:
    """A gigabyte at once is no leave to hold a place for hours."""
    began = asyncio.get_running_loop().time()
    assert await read_all(paced(Body(b"x" * (1 << 20), 0, 10).receive, ticket, Pace(1000, PATIENCE_S))) == 10
    assert asyncio.get_running_loop().time() - began < SOON_S / 2


async def test_without_a_floor_uploads_may_stop(ticket: Ticket) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(paced(never, ticket, Pace(0, 0.01))(), PATIENCE_S)


async def test_waiting_after_a_whole_body_is_not_counted(ticket: Ticket) -> None:
    """What comes then is the end of the connection, whenever that is."""
    ticket.receive(1, more=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(paced(never, ticket, Pace(1000, 0.01))(), PATIENCE_S)


async def test_the_deadline_of_a_request_ends_its_upload_too(ticket: Ticket) -> None:
    ticket.deadline = asyncio.get_running_loop().time() + 0.01
    with pytest.raises(RequestTimeout):
        await paced(never, ticket, Pace(0, SOON_S))()


async def test_received_bytes_are_counted(ticket: Ticket) -> None:
    intake = paced(Body(b"x" * 10, 0, 2).receive, ticket, Pace(1000, SOON_S))
    await intake()
    await intake()
    assert (ticket.upload_bytes, ticket.uploading) == (20, True)
