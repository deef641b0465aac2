"""Messages from a media worker to the main process: one JSON list per packet of a Unix socket, strictly validated.

A worker reads untrusted files and may be compromised. So nothing here is ever unpickled, packets are limited in
size, and each one is a `Message` of small values of the right types, or `InvalidMessage`. Matched by hand rather
than by pydantic: the rules are few, most of them between fields, and the fork server, which imports this module
too, would grow by half.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NoReturn, get_args

from server.errors import AudioTooLong, AudioTooShort, Unavailable, UndecodableAudio
from server.options import ScanOptions, VadOptions
from server.system.sandbox import ProcessLimits
from server.transcript import MAX_WINDOW_S, SAMPLE_RATE, Span, Window

READY = b"ready"  # sent once by the fork server, before any message
MAX_MESSAGE_BYTES = 1 << 15
MAX_DETAIL = 200  # characters
MAX_SAMPLES = 1 << 40
MAX_HINT_S = 2**63 / 1e6  # the largest duration that FFmpeg can represent
MESSAGES = 12  # allowed per window length of audio; more than twice the usual number

Reason = Literal["undecodable", "too_short", "too_long", "no_room", "no_memory", "fault"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class InvalidMessage(Exception):
    """A packet that no healthy worker sends."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has begun with the file."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The container was recognized; with the duration it claims, if any."""

    duration_hint_s: float | None


@dataclass(frozen=True, slots=True)
class Decoded:
    """Number of samples in the spool."""

    samples: int


@dataclass(frozen=True, slots=True)
class WindowFound:
    """The next window."""

    window: Window


@dataclass(frozen=True, slots=True)
class Done:
    """The end of the file: its number of samples, and its largest log-mel value if requested."""

    samples: int
    mel_max: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The scan failed; `detail` is shown to the caller."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The process has exited: its status, negative for a signal; None if it never started. Always comes last."""

    status: int | None


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """The request to a worker: one scan of the file that is sent along."""

    options: ScanOptions
    limits: ProcessLimits


Message = Started | Opened | Decoded | WindowFound | Done | Failed | Ended


class MessageOrder:
    """Checks the order of messages in one scan: counts that grow, consecutive windows, and no flood of either."""

    def __init__(self, window_s: float) -> None:
        """`window_s` is the longest window that was requested."""
        self._window_samples = window_s * SAMPLE_RATE
        self._messages = 0
        self._samples = 0
        self._windows = 0
        self._end = 0  # end of the last window

    def check(self, message: Message, written: int) -> None:
        """Raise `InvalidMessage` unless `message` is valid now, with `written` samples in the spool."""
        match message:
            case Decoded(samples):
                fits = self._samples < samples <= written
                self._samples = samples
            case WindowFound(window):
                fits = window.index == self._windows and self._end <= window.offset and window.end <= self._samples
                self._windows, self._end = self._windows + 1, window.end
            case Done(samples):
                fits = samples == self._samples
            case _:
                fits = True
        self._messages += 1
        # At least every other window is half full, and there is one count per ten seconds.
        if not fits or self._messages > MESSAGES * (1 + self._samples / self._window_samples):
            raise InvalidMessage(f"unexpected message {type(message).__name__}")


def encode(message: Message) -> bytes:
    """`message` as a packet. Raises `ValueError` if it is too large for one."""
    data = json.dumps(_listed(message), allow_nan=False).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a frame of {len(data)} bytes")
    return data


def decode(data: bytes) -> Message:
    """The message in a packet; raises `InvalidMessage` if it is malformed."""
    try:
        return _parsed(json.loads(data, parse_constant=_bad))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage("no JSON") from error


def receive(channel: socket.socket) -> Message | None:
    """The next message, None at the end; raises `InvalidMessage`, `TimeoutError` after the channel's timeout."""
    data, _, flags, _ = channel.recvmsg(MAX_MESSAGE_BYTES)
    if flags & socket.MSG_TRUNC:
        return _bad("too long")
    return decode(data) if data else None


def encode_request(order: ScanRequest) -> bytes:
    return json.dumps(asdict(order)).encode()


def decode_request(data: bytes) -> ScanRequest:
    """The request of the main process; in this direction the content is trusted."""
    order = json.loads(data)
    options = order["options"]
    return ScanRequest(
        ScanOptions(**{**options, "vad": VadOptions(**options["vad"])}), ProcessLimits(**order["limits"])
    )


def failure(error: Exception) -> Failed:
    """The message that reports the error which ended a worker."""
    match error:
        case UndecodableAudio():
            return Failed("undecodable", error.detail)
        case AudioTooShort():
            return Failed("too_short", "")
        case AudioTooLong():
            return Failed("too_long", "")
        case Unavailable():
            return Failed("no_room", error.message)
        case MemoryError():
            return Failed("no_memory", "")
    return Failed("fault", repr(error))


def error_of(failed: Failed, limit_s: float) -> Exception:
    """The error that `failed` reports."""
    match failed.reason:
        case "undecodable":
            return UndecodableAudio(failed.detail)
        case "too_short":
            return AudioTooShort()
        case "too_long":
            return AudioTooLong(limit_s)
        case "no_room":
            return Unavailable(failed.detail)
        case "no_memory":
            return UndecodableAudio("Decoding it needs more memory than allowed (SOTTO_MEDIA_MEMORY_MB).")
        case "fault":
            return RuntimeError(f"a media worker failed: {failed.detail}")


def _listed(message: Message) -> list[object]:
    match message:
        case Started():
            return ["started"]
        case Opened(hint_s):
            return ["opened", hint_s]
        case Decoded(samples):
            return ["reached", samples]
        case WindowFound(window):
            return ["found", window.index, [[span.start, span.end] for span in window.spans]]
        case Done(samples, mel_max):
            return ["done", samples, mel_max]
        case Failed(reason, detail):
            return ["failed", reason, detail[:MAX_DETAIL]]
        case Ended(status):
            return ["ended", status]


def _parsed(frame: object) -> Message:
    match frame:
        case ["started"]:
            return Started()
        case ["opened", hint_s]:
            return Opened(None if hint_s is None else _number(hint_s, 0.0, MAX_HINT_S))
        case ["reached", samples]:
            return Decoded(_count(samples))
        case ["found", index, [_, *_] as pairs]:
            return WindowFound(Window(_count(index), _spans(pairs)))
        case ["done", samples, mel_max]:
            return Done(_count(samples), None if mel_max is None else _number(mel_max, -100.0, 100.0))
        case ["failed", str(reason), str(detail)] if reason in REASONS and len(detail) <= MAX_DETAIL:
            return Failed(reason, "".join(filter(str.isprintable, detail)))
        case ["ended", None]:
            return Ended(None)
        case ["ended", status] if type(status) is int and abs(status) < 256:
            return Ended(status)
    return _bad("unknown")


def _count(value: object) -> int:
    return int(_number(value, 0, MAX_SAMPLES)) if isinstance(value, int) else _bad("no count")


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        return value
    return _bad("no number")


def _spans(pairs: Sequence[object]) -> tuple[Span, ...]:
    """Spans in order, without overlap, together no longer than a window."""
    spans = []
    for pair in pairs:
        start, end = pair if isinstance(pair, list) and len(pair) == 2 else _bad("no span")
        spans.append(Span(_count(start), _count(end)))
    edges = [edge for span in spans for edge in (span.start, span.end)]
    if edges != sorted(edges) or not all(map(len, spans)) or sum(map(len, spans)) > MAX_WINDOW_S * SAMPLE_RATE:
        return _bad("no window")
    return tuple(spans)


def _bad(what: str) -> NoReturn:
    raise InvalidMessage(what)
