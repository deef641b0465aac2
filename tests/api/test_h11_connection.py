"""What a connection parses, and what of a body it doesn't."""

from collections.abc import Iterator

import h11
import pytest

from server.api.h11_connection import CHUNK_BYTES, CHUNKS_PER_S, FREE_CHUNKS, Connection, RefusedRequest

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def chunks(count: int, size: int = 1) -> bytes:
    return (b"%x\r\n" % size + b"x" * size + b"\r\n") * count


def events(connection: Connection, data: bytes) -> Iterator[h11.Event]:
    connection.receive_data(data)
    while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
        assert isinstance(event, h11.Event)
        yield event


def accepted(clock: Clock) -> Connection:
    """A connection whose application has begun to read the body."""
    connection = Connection(clock)
    assert [type(event) for event in events(connection, HEAD)] == [h11.Request]
    connection.body_held = False
    return connection


def test_body_is_parsed_once_it_is_wanted() -> None:
    connection = Connection(Clock())
    (request,) = events(connection, HEAD + chunks(3) + b"0\r\n\r\n")
    assert isinstance(request, h11.Request)
    assert connection.body_held
    assert not list(events(connection, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    connection.body_held = False
    assert [type(event) for event in events(connection, b"")] == [*[h11.Data] * 3, h11.EndOfMessage]


@pytest.mark.parametrize("data", [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"])
def test_body_of_known_length_is_parsed_at_once(data: bytes) -> None:
    assert [type(event) for event in events(Connection(Clock()), data)] == [h11.Request, h11.Data, h11.EndOfMessage]


def test_tiny_chunks_at_once_are_refused_from_a_number_on() -> None:
    connection = accepted(Clock())
    parsed: list[h11.Event] = []
    with pytest.raises(RefusedRequest, match="tiny chunks"):
        parsed.extend(events(connection, chunks(2 * FREE_CHUNKS)))
    assert FREE_CHUNKS <= len(parsed) <= FREE_CHUNKS + 2 * FREE_CHUNKS // CHUNK_BYTES


@pytest.mark.parametrize("size", [CHUNK_BYTES, 1000])
def test_larger_chunks_are_taken_without_end(size: int) -> None:
    connection = accepted(Clock())
    for _ in range(20):
        assert len(list(events(connection, chunks(FREE_CHUNKS, size)))) == FREE_CHUNKS


@pytest.mark.parametrize(("frame_bytes", "frame_s"), [(13, 0.02), (100, 0.02), (1, 0.01)])
def test_live_encoder_may_send_tiny_frames_for_long(frame_bytes: int, frame_s: float) -> None:
    clock = Clock()
    connection = accepted(clock)
    for _ in range(round(600 / frame_s)):
        clock.now_s += frame_s
        assert len(list(events(connection, chunks(1, frame_bytes)))) == 1


def test_frames_that_a_network_held_up_are_taken_together() -> None:
    clock = Clock()
    connection = accepted(clock)
    clock.now_s = 60
    assert len(list(events(connection, chunks(60 * CHUNKS_PER_S)))) == 60 * CHUNKS_PER_S


def test_each_request_has_chunks_of_its_own() -> None:
    connection = Connection(Clock())
    for _ in range(3):
        list(events(connection, HEAD))
        connection.body_held = False
        assert len(list(events(connection, chunks(FREE_CHUNKS) + b"0\r\n\r\n"))) == FREE_CHUNKS + 1
        connection.send(h11.Response(status_code=204, headers=[]))
        connection.send(h11.EndOfMessage())
        connection.start_next_cycle()
