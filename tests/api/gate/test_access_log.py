"""The record of a request, over a gate's middleware without the rest of the gate."""

import logging

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.gate.access_log import AccessLog
from server.api.gate.request_body import RequestBody
from server.errors import Unavailable
from server.monitoring.request_metrics import RequestMetrics

pytestmark = pytest.mark.anyio

OK: Message = {"type": "http.response.start", "status": 200, "headers": []}
END: Message = {"type": "http.response.body", "body": b"four"}
BUSY: Message = {"type": "http.response.start", "status": 503, "headers": []}
REASON: Message = {
    "type": "http.response.body",
    "body": b'{"error": {"message": "The server is full.", "type": "server_error", "param": null, "code": null}}',
}


async def gone() -> Message:
    return {"type": "http.disconnect"}


async def ignore(message: Message) -> None:
    """Nothing is sent anywhere."""


def answering(*messages: Message, state: dict[str, object] | None = None) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"].update(state or {})
        for message in messages:
            if message["type"] == "receive":
                await receive()
            else:
                await send(message)

    return answer


RECEIVE: Message = {"type": "receive"}


@pytest.mark.parametrize(
    ("app", "line"),
    [
        (answering(OK, END), "200 x.xxxs GET /a%0A 10.0.0.7 in 0 out 4"),
        (answering(OK, END, RECEIVE), "200 x.xxxs GET /a%0A 10.0.0.7 in 0 out 4"),
        (answering(OK, RECEIVE, END), "200 x.xxxs GET /a%0A 10.0.0.7 in 0 out 4 disconnected"),
        (
            answering(OK, END, state={"failure": Unavailable("The device has gone."), "key_name": "desk"}),
            "200 x.xxxs GET /a%0A 10.0.0.7 (desk) in 0 out 4 failed: server_error: The device has gone.",
        ),
        (
            answering(BUSY, REASON),
            "503 x.xxxs GET /a%0A 10.0.0.7 in 0 out 98 failed: server_error: The server is full.",
        ),
        (
            answering(BUSY, REASON, state={"rejected": True}),
            "503 x.xxxs GET /a%0A 10.0.0.7 in 0 out 98 rejected: server_error: The server is full.",
        ),
    ],
    ids=["completed", "left after the end", "disconnected", "failed after it began", "failed", "rejected unread"],
)
async def test_the_line_says_how_the_request_ended(
    app: ASGIApp, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "server.access")
    scope: Scope = {"type": "http", "path": "/a", "client": ("10.0.0.7", 1), "headers": []}
    scope["state"] = {"request_line": ("GET", "/a%0A"), "body": RequestBody(scope, gone)}
    await AccessLog(app, RequestMetrics(), with_text=False)(scope, gone, ignore)
    status, _, rest = caplog.messages[-1].split(maxsplit=2)
    assert f"{status} x.xxxs {rest}" == line


UNAUTHORIZED: Message = {"type": "http.response.start", "status": 401, "headers": []}
LIMITED: Message = {"type": "http.response.start", "status": 429, "headers": []}


@pytest.mark.parametrize(
    ("app", "levels"),
    [
        (answering(UNAUTHORIZED, END), ["INFO", "DEBUG", "DEBUG"]),
        (answering(LIMITED, END), ["INFO", "DEBUG", "DEBUG"]),
        (answering(LIMITED, END, state={"key_name": "desk"}), ["INFO"] * 3),
        (answering(OK, END), ["INFO"] * 3),
    ],
    ids=["wrong keys", "too many wrong keys", "a share that is used up", "valid keys"],
)
async def test_only_clients_without_a_valid_key_have_lines_left_out(
    app: ASGIApp, levels: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "server.access")
    log = AccessLog(app, requests := RequestMetrics(), with_text=False)
    for _ in range(3):
        scope: Scope = {"type": "http", "path": "/a", "client": ("10.0.0.7", 1), "headers": []}
        scope["state"] = {"request_line": ("GET", "/a"), "body": RequestBody(scope, gone)}
        await log(scope, gone, ignore)
    assert [record.levelname for record in caplog.records] == levels
    [counted] = [family for family in requests.collect() if family.name == "sotto_http_requests"]
    assert [sample.value for sample in counted.samples] == [3]
