"""uvicorn's HTTP/1.1 protocol on h11, with OpenAI's envelope for malformed requests and with shorter timeouts.

h11, since httptools loses the body of a POST that offers `Upgrade: h2c`, as every JDK client does.
"""

import asyncio
import logging
import socket
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.api.errors import error_response
from server.errors import MalformedRequest, SottoError, Unavailable
from server.logs import new_request_id, request_id
from server.settings import Settings

HEAD_BYTES = 16 << 10  # of the URL and all headers together; h11's own default

COMPLAINTS = {
    431: f"The URL and the headers are too long: together they must be shorter than {HEAD_BYTES} bytes.",
    501: "Unsupported transfer encoding: send the body with Content-Length or Transfer-Encoding: chunked.",
}

logger = logging.getLogger("server.access")


class Protocol(H11Protocol):
    """Rejects malformed HTTP in OpenAI's envelope, and ignores offers to upgrade without a warning.

    Closes connections whose client sends no request or doesn't read its response; the gate limits the time for a
    body. Needs `settings` in the state of the application's lifespan.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._settings: Settings = self.app_state["settings"]
        self._head_timer: asyncio.TimerHandle | None = None
        _give_up_on_silence(transport.get_extra_info("socket"), self._settings.send_timeout_seconds)
        if len(self.connections) > self._settings.max_connections:
            self._refuse(
                Unavailable(
                    "The server has too many open connections (SOTTO_MAX_CONNECTIONS). Please try again later."
                )
            )
            return
        # uvicorn starts this timer between requests, but not before the first one.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.our_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self._settings.head_timeout_seconds, self._give_up_on_head)

    def send_400_response(self, msg: str) -> None:
        """Called while the parser's exception, which gives the kind of fault, is being handled."""
        if self.cycle and not self.cycle.response_complete:  # the body is broken: for its request, a disconnect
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        self._refuse(MalformedRequest(COMPLAINTS.get(status, msg), status))

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
        """Close the connection, after sending `error` unless a response has begun."""
        response = error_response(error)
        response.headers["x-request-id"] = _logged(error)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [*response.raw_headers, (b"connection", b"close")]
            asked_for_head = self.conn.our_state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
            for event in (
                h11.Response(status_code=response.status_code, headers=headers),
                h11.Data(data=b"" if asked_for_head else bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

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
