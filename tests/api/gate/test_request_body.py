import pytest
from starlette.types import Message

from server.api.gate.request_body import RequestBody


async def never() -> Message:
    raise AssertionError("nothing is read")


def body_of(**headers: str) -> RequestBody:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return RequestBody({"type": "http", "headers": raw}, never)


@pytest.mark.parametrize(
    ("headers", "declared", "unread"),
    [
        ({}, 0, False),
        ({"content_length": "0"}, 0, False),
        ({"content_length": "12"}, 12, True),
        ({"transfer_encoding": "chunked"}, 0, True),
        ({"transfer_encoding": "chunked", "content_length": "12"}, 0, True),
        ({"content_length": "12", "transfer_encoding": "chunked"}, 0, True),
    ],
)
def test_length_is_known_only_without_chunks(headers: dict[str, str], declared: int, unread: bool) -> None:
    body = body_of(**headers)
    assert (body.declared_bytes, body.is_unread) == (declared, unread)
