"""h11's state machine of a connection, with limits that it lacks: on heads, on framing and on tiny chunks.

h11 parses a chunk in about 20 us, however small it is. So a chunked body is not parsed before the application reads
it, which it does only for requests that it accepts; and in those, the number of tiny chunks is bounded.
"""

import re
import time
from collections.abc import Callable

import h11

HEAD_BYTES = 16 << 10  # of the URL and all headers together
END_OF_HEAD = re.compile(rb"\n\r?\n")

# A recording is sent in far fewer chunks than these, at any speed. A live encoder that sends each frame of 10 or
# 20 ms as a chunk, which may have only a dozen bytes, stays below the rate for hours.
FREE_CHUNKS = 1024
CHUNK_BYTES = 64  # mean size from which chunks are not counted
CHUNKS_PER_S = 100

Clock = Callable[[], float]


class RefusedRequest(h11.RemoteProtocolError):
    """A request that is refused for what h11 accepts; the message is for the client."""


class ChunkBudget:
    """The chunks that one body may come in."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock()
        self._chunks = 0
        self._bytes = 0

    def spend(self, count: int, *, new_chunk: bool) -> None:
        """Count bytes of a chunk. Raises `RefusedRequest` for too many tiny chunks."""
        self._chunks += new_chunk
        self._bytes += count
        above = self._chunks - FREE_CHUNKS - self._bytes / CHUNK_BYTES
        if above > 0 and above > (self._clock() - self._began_s) * CHUNKS_PER_S:
            raise RefusedRequest(
                f"The body came in too many tiny chunks: send chunks of at least {CHUNK_BYTES} bytes, or no more "
                f"than {CHUNKS_PER_S} a second.",
                error_status_hint=400,
            )


class Connection(h11.Connection):
    """The server's side of a connection. Raises `h11.RemoteProtocolError` for requests that must not be answered.

    `asked_for_head`: the current request is a HEAD. `chunked`: its body is. `body_held`: that is not parsed yet.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self.asked_for_head = False
        self.chunked = False
        self.body_held = False
        self._clock = clock
        self._budget = ChunkBudget(clock)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event; of a chunked body, none while `body_held`."""
        if self.their_state is h11.IDLE:
            self._check_length_of_head()
        if self.body_held and self.their_state is h11.SEND_BODY:
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data) and self.chunked:
            self._budget.spend(len(event.data), new_chunk=event.chunk_start)
        return event

    def _check_length_of_head(self) -> None:
        """h11 itself limits a head only as long as it is incomplete."""
        waiting, _ = self.trailing_data
        if len(waiting) > HEAD_BYTES and not END_OF_HEAD.search(waiting, 0, HEAD_BYTES):
            raise h11.RemoteProtocolError("head too long", error_status_hint=431)

    def _begin(self, request: h11.Request) -> None:
        names = {name for name, _ in request.headers}
        self.asked_for_head = request.method == b"HEAD"
        self.chunked = self.body_held = b"transfer-encoding" in names
        self._budget = ChunkBudget(self._clock)
        if self.chunked and (b"content-length" in names or request.http_version < b"1.1"):
            # A proxy that goes by the other header would take the rest of the body for a request of its own.
            raise RefusedRequest(
                "A request may not have Transfer-Encoding together with Content-Length, or in HTTP/1.0.",
                error_status_hint=400,
            )
