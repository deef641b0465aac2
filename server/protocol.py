"""HTTP/1.1 as uvicorn speaks it with h11, with our words where a request never becomes one.

h11, since httptools loses the body of a POST that offers `Upgrade: h2c`, as every JDK client does.
"""

import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.api.envelope import error_response
from server.errors import MalformedRequest

HEAD_BYTES = 16 << 10  # of the URL and all headers together; h11's own default

COMPLAINTS = {
    431: f"The URL and the headers of a request are too long: keep them below {HEAD_BYTES} bytes together.",
    501: "A body may come with a Content-Length or with Transfer-Encoding: chunked, and no other way.",
}


class Protocol(H11Protocol):
    """Refuses in OpenAI's envelope what is no HTTP, and lets offers of another protocol pass unremarked."""

    def send_400_response(self, msg: str) -> None:
        """Called while the parser's complaint is being handled, which tells the kind of fault."""
        if (
            self.cycle and not self.cycle.response_complete
        ):  # a body that breaks off: to its request, the client left
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        response = error_response(MalformedRequest(COMPLAINTS.get(status, msg), status))
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer is on its way: only hang up
            headers = [*response.raw_headers, (b"connection", b"close")]
            asked_for_head = self.conn.our_state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=b"" if asked_for_head else bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing is wrong with an offer: the answer in HTTP/1.1 declines it."""
