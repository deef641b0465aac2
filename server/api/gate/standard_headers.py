"""The headers of every response, and the request id that the log uses."""

import time
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.gate.ticket import Ticket
from server.logs import new_request_id, request_id

API_VERSION = "2020-10-01"  # OpenAI's only version
PLAIN = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"  # unchanged in a header; `%` and all others are percent-encoded


class StandardHeaders:
    """Middleware: gives each request an id, which its log lines contain, and each response OpenAI's headers and
    the name of the model that did the work."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id.get()
                headers["openai-processing-ms"] = str(round((time.perf_counter() - began) * 1000))
                headers["openai-version"] = API_VERSION
                headers["x-content-type-options"] = "nosniff"
                ticket: Ticket | None = scope["state"].get("ticket")
                if ticket and ticket.model:
                    headers["x-sotto-model"] = quote(ticket.model, safe=PLAIN)
            await send(message)

        token = request_id.set(new_request_id())
        try:
            await self._app(scope, receive, with_headers)
        finally:
            request_id.reset(token)
