"""Traces of requests, for an OpenTelemetry collector set by the standard environment variables.

FastAPI makes them, and loads the exporter only if a collector is set. Spans contain neither text nor keys.
"""

from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import get_current_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.paths import WATCHED
from server.logs import request_id

TELEMETRY: TelemetryConfig = {
    "auto_configure": True,  # from OTEL_EXPORTER_OTLP_ENDPOINT; does nothing without it
    "metrics": False,  # Prometheus has them
    "logs": False,  # they would contain messages of exceptions
    "operation_spans": False,
    "exclude": lambda scope: scope["path"] in WATCHED,
}


class Named:
    """Adds the request id to a request's span, and the model as soon as it is known."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = get_current_span()
        if not span.is_recording():
            await self._app(scope, receive, send)
            return
        span.set_attribute("sotto.request_id", request_id.get())

        async def named(message: Message) -> None:
            ticket = scope["state"].get("ticket")
            if message["type"] == "http.response.start" and ticket and ticket.work:
                span.set_attribute("sotto.model", ticket.work.model)
            await send(message)

        await self._app(scope, receive, named)
