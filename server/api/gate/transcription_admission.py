"""Admits transcriptions before their body is read; each holds a place until it ends."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.gate.admission import Admission
from server.api.gate.request_body import RequestBody
from server.api.gate.upload_pace import Pace, PacedReceive
from server.api.paths import TRANSCRIBING, client_address


class TranscriptionAdmission:
    """Middleware: raises `Unavailable` or `RateLimited` if there is no room; the place is `state["ticket"]`.

    `timeout_s` limits the whole request, its upload included; 0 means no limit.
    """

    def __init__(self, app: ASGIApp, admission: Admission, pace: Pace, timeout_s: float) -> None:
        self._app = app
        self._admission = admission
        self._pace = pace
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope["state"]
        if scope["method"] != "POST" or state["route"] not in TRANSCRIBING:
            await self._app(scope, receive, send)
            return
        body: RequestBody = state["body"]
        client = state["key_name"] or client_address(scope)
        with self._admission.admit(client, body.declared_bytes, self._deadline()) as ticket:
            state["ticket"] = ticket
            await self._app(scope, PacedReceive(receive, body, ticket, self._pace), send)

    def _deadline(self) -> float | None:
        """Return the deadline by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout_s if self._timeout_s else None
