"""uvicorn's HTTP/1.1 protocol on h11, with OpenAI's envelope for malformed requests, with limits and timeouts.

h11, since httptools loses the body of a POST that offers `Upgrade: h2c`, as every JDK client does.
"""

import asyncio
import logging
import socket
import sys
from contextlib import suppress
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.api.connection_table import ConnectionTable
from server.api.errors import error_response
from server.api.gate.response_guard import DISCARD_BYTES, DISCARD_S
from server.api.h11_connection import HEAD_BYTES, Connection, RefusedRequest
from server.errors import MalformedRequest, SottoError, Unavailable
from server.logs import new_request_id, request_id
from server.settings import Settings

READ_BYTES = 64 << 10  # at once: while these are parsed, other connections wait
FIRST_REQUEST_S = 10.0  # how long a new connection may send nothing
LAST_CHUNK = b"0\r\n\r\n"

MESSAGES = {
    431: f"The URL and the headers are too long: together they must be shorter than {HEAD_BYTES} bytes.",
    501: "Unsupported transfer encoding: send the body with Content-Length or Transfer-Encoding: chunked.",
}

logger = logging.getLogger("server.access")


class Protocol(H11Protocol, asyncio.BufferedProtocol):
    """Rejects malformed HTTP in OpenAI's envelope, and ignores offers to upgrade without a warning.

    Closes connections whose client sends no request or doesn't read its response; the gate limits the time for a
    body. A chunked body is parsed only if the application reads it before it answers; what is left of it then is
    discarded as it came. Needs `settings` and `connections` in the state of the application's lifespan.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn: Connection = Connection()
        self._wrapped, self.app = self.app, self._run
        self._received = bytearray()
        self._head_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._discarded_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._settings: Settings = self.app_state["settings"]
        _give_up_on_silence(transport.get_extra_info("socket"), self._settings.send_timeout_seconds)
        self._table: ConnectionTable = self.app_state["connections"]
        if not self._table.add(self, self.client[0] if self.client else ""):
            full = "The server has too many open connections (SOTTO_MAX_CONNECTIONS). Please try again later."
            self._refuse(Unavailable(full))
            transport.close()
            return
        # uvicorn starts this timer between requests, but not before the first one.
        patience_s = min(FIRST_REQUEST_S, self.timeout_keep_alive)
        self.timeout_keep_alive_task = self.loop.call_later(patience_s, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._close_timer:
            self._close_timer.cancel()
        self._table.remove(self)
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close the connection, which has no request under way, for another one."""
        self.transport.abort()  # at once, also where its client doesn't read an earlier response

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.our_state is h11.IDLE:  # no request that was sent ahead has begun
            self._table.set_idle(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        self._received = bytearray(READ_BYTES)
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(self._received)[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if self._close_timer:
            self._discard(data)
        elif self._is_rest_of_refused_body():
            self._pass_on(data)
        else:
            super().data_received(data)
            if self.conn.body_held and len(self.conn.trailing_data[0]) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self._watch_head()

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application. Its first `receive` releases the body."""

        async def releasing() -> Message:
            if self.conn.body_held and scope is self.scope:
                self._release_body()
            if self._close_timer:  # uvicorn would send its 100 Continue after the response
                return {"type": "http.disconnect"}
            return await receive()

        async def answering(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and self.conn.their_state is h11.SEND_BODY:
                self._table.set_idle(self)  # refused: what is left of the body is only discarded

        await self._wrapped(scope, releasing, answering)

    def _release_body(self) -> None:
        self.conn.body_held = False
        if self.cycle.response_started:
            self._pass_on(self.conn.trailing_data[0])
        else:
            self.handle_events()

    def _is_rest_of_refused_body(self) -> bool:
        """Whether a chunked body still arrives for a request whose response, which closes the connection, has
        begun."""
        is_incomplete = self.conn.chunked and self.conn.their_state is h11.SEND_BODY
        return is_incomplete and bool(self.cycle) and self.cycle.response_started

    def _pass_on(self, data: bytes) -> None:
        """Hand the received part of a refused body on to be discarded, its chunks unparsed."""
        self.cycle.body += data
        self.cycle.more_body = not data.endswith(LAST_CHUNK)
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > DISCARD_BYTES:
            self.transport.pause_reading()

    def _watch_head(self) -> None:
        if self.conn.our_state is not h11.IDLE:
            self._stop_head_timer()
            if self.conn.our_state is h11.SEND_RESPONSE:
                self._table.set_busy(self)
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self._settings.head_timeout_seconds, self._give_up_on_head)

    def send_400_response(self, msg: str) -> None:
        """Called while the parser's exception, which gives the kind of fault, is being handled."""
        if self.cycle and not self.cycle.response_complete:  # the body is broken: for its request, a disconnect
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        message = str(error) if isinstance(error, RefusedRequest) else MESSAGES.get(status, msg)
        self._refuse(MalformedRequest(message, status))

    def _give_up_on_head(self) -> None:
        within = f"{self._settings.head_timeout_seconds:g} seconds"
        self._refuse(
            MalformedRequest(
                f"The headers of the request did not arrive within {within} (SOTTO_HEAD_TIMEOUT_SECONDS).", 408
            )
        )

    def _stop_head_timer(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: SottoError) -> None:
        """Close the connection, after sending `error` unless a response has begun.

        What the client still sends is discarded for a moment: a socket that is closed with unread bytes is reset,
        and the response may be lost.
        """
        response = error_response(error)
        response.headers["x-request-id"] = _logged(error)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [*response.raw_headers, (b"connection", b"close")]
            asked_for_head = self.conn.our_state is h11.SEND_RESPONSE and self.conn.asked_for_head
            for event in (
                h11.Response(status_code=response.status_code, headers=headers),
                h11.Data(data=b"" if asked_for_head else bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        with suppress(OSError):  # the client is gone
            self.transport.write_eof()
        self._close_timer = self.loop.call_later(DISCARD_S, self.transport.close)

    def _unsupported_upgrade_warning(self) -> None:
        """Suppress uvicorn's warning: an offer is no fault, and the response in HTTP/1.1 declines it."""


def _logged(error: SottoError) -> str:
    """Log the error; return the id under which the log has it."""
    refusal = new_request_id()
    token = request_id.set(refusal)
    logger.info("rejected without reading the request: %d %s", error.status, error)
    request_id.reset(token)
    return refusal


def _give_up_on_silence(connection: socket.socket, patience_s: float) -> None:
    """On Linux, let the kernel close `connection` if its peer is unreachable, or reads nothing, for
    `patience_s`."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, round(patience_s / 2)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, round(patience_s / 6)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience_s * 1000))
