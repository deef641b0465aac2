"""Checks what an engine's process sends, as it may have been taken over by the model that it has loaded.

Every value has the type that its dataclass declares, and a message a maximum size. Imported by the server
alone: its child processes start faster without pydantic.
"""

from typing import Any, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from server.engine.messages import FromChild, Ready

MAX_MESSAGE_BYTES = 16 << 20
MOST_WINDOWS = 1 << 20  # in a batch or a queue
MOST_MELS = 1 << 10

CONFIG = ConfigDict(val_json_bytes="hex")


class InvalidEngineMessage(Exception):
    """Bytes that no engine sends by itself."""


def _checker(kind: Any) -> TypeAdapter[tuple[FromChild]]:
    in_a_tuple: Any = tuple[kind]  # by itself a dataclass takes no config
    return TypeAdapter(in_a_tuple, config=CONFIG)


_CHECKERS = {kind.__name__.encode(): _checker(kind) for kind in get_args(FromChild)}


def decode(data: bytes) -> FromChild:
    """The message in `data`; raises `InvalidEngineMessage`, without what was sent: that may be anything."""
    kind, _, body = data.partition(b" ")
    if kind not in _CHECKERS:
        raise InvalidEngineMessage("an unknown kind of message")
    try:
        (message,) = _CHECKERS[kind].validate_json(b"[%b]" % body, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidEngineMessage(f"{kind.decode()} {where}: {first['type']}") from None
    if isinstance(message, Ready) and not _is_sane(message):
        raise InvalidEngineMessage("limits beyond all reason")
    return message


def _is_sane(ready: Ready) -> bool:
    sizes = (ready.max_batch, ready.max_queued)
    return all(0 < size <= MOST_WINDOWS for size in sizes) and 0 < ready.facts.mels <= MOST_MELS
