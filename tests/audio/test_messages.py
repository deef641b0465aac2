import json
import socket
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.audio.messages import (
    MAX_DETAIL,
    MAX_MESSAGE_BYTES,
    MAX_SAMPLES,
    Decoded,
    Done,
    Ended,
    Failed,
    InvalidMessage,
    Message,
    MessageOrder,
    Opened,
    ScanRequest,
    Started,
    WindowFound,
    decode,
    decode_request,
    encode,
    encode_request,
    error_of,
    failure,
    receive,
)
from server.audio.speech import SpeechEnd, SpeechStart
from server.audio.windows import WindowPacker
from server.errors import AudioTooLong, AudioTooShort, SottoError, Unavailable, UndecodableAudio
from server.options import ScanOptions, VadOptions
from server.system.sandbox import ProcessLimits
from server.transcript import MAX_WINDOW_S, SAMPLE_RATE, Span, Window
from tests.support.fakes import tone

MESSAGES: list[Message] = [
    Started(),
    Opened(None),
    Opened(12.5),
    Opened(2**63 / 1e6),
    Decoded(160_000),
    WindowFound(Window(3, (Span(0, 5), Span(7, 480_002)))),
    Done(0, None),
    Done(MAX_SAMPLES, -1.5),
    Failed("undecodable", "It contains no audio."),
    Ended(None),
    Ended(-9),
]
numbers = st.integers() | st.floats() | st.booleans() | st.none()
words = st.sampled_from(["started", "opened", "reached", "found", "done", "failed", "ended"])
values = st.recursive(
    numbers | st.text(max_size=5) | words, lambda inner: st.lists(inner, max_size=4), max_leaves=9
)
frames = st.builds(lambda word, rest: [word, *rest], words, st.lists(values, max_size=3))
spans = st.lists(st.integers(0, 600_000), min_size=2, max_size=6, unique=True).map(sorted)
windows = st.builds(
    lambda index, edges: Window(index, tuple(Span(a, b) for a, b in list(pairwise(edges))[::2])),
    st.integers(0, 5),
    spans,
)
messages = (
    st.builds(Decoded, st.integers(0, 2_000_000))
    | st.builds(WindowFound, windows)
    | st.builds(Done, st.integers(0, 2_000_000), st.none())
    | st.sampled_from([Started(), Opened(1.0)])
)


@pytest.mark.parametrize("message", MESSAGES, ids=str)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            theirs.send(encode(message))
        assert receive(ours) == message
        assert receive(ours) is None


def test_the_window_with_most_spans_fits() -> None:
    most = int(MAX_WINDOW_S * SAMPLE_RATE) // 512
    late = MAX_SAMPLES - most * 1_024
    found = WindowFound(Window(9_999, tuple(Span(late + n * 1_024, late + n * 1_024 + 512) for n in range(most))))
    assert decode(encode(found)) == found


def test_a_message_too_large_is_never_sent() -> None:
    with pytest.raises(ValueError, match="a frame of"):
        encode(WindowFound(Window(0, tuple(Span(n, n + 1) for n in range(0, 20_000, 2)))))


def test_a_packet_too_large_is_no_message() -> None:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(b'["started"]' + b" " * MAX_MESSAGE_BYTES)
        with pytest.raises(InvalidMessage):
            receive(ours)


@given(st.binary(max_size=200) | st.text(max_size=99).map(str.encode))
def test_bytes_that_are_no_message_raise_invalid_message(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode(data)


@given(frames | values)
@settings(max_examples=500)
def test_every_accepted_message_is_valid(frame: object) -> None:
    try:
        message = decode(json.dumps(frame).encode())
    except InvalidMessage:
        return
    assert decode(encode(message)) == message
    match message:
        case Opened(float(value)):
            assert 0 <= value < 1e13
        case Decoded(count) | Done(count, _):
            assert type(count) is int
            assert 0 <= count <= MAX_SAMPLES
        case WindowFound(window):
            edges = [edge for span in window.spans for edge in (span.start, span.end)]
            assert edges == sorted(edges)
            assert 0 < window.length <= MAX_WINDOW_S * SAMPLE_RATE
        case Failed(_, detail):
            assert detail.isprintable()
            assert len(detail) <= MAX_DETAIL


@given(st.lists(messages, max_size=40), st.integers(0, 1_500_000))
@settings(max_examples=300)
def test_valid_messages_stay_within_the_samples_written(sent: list[Message], written: int) -> None:
    course = MessageOrder(window_s=1.0)
    reached, end, index = 0, 0, 0
    try:
        for message in sent:
            course.check(message, written)
            match message:
                case Decoded(samples):
                    assert reached < samples <= written
                    reached = samples
                case WindowFound(window):
                    assert window.index == index
                    assert end <= window.offset < window.end <= reached
                    index, end = index + 1, window.end
                case Done(samples):
                    assert samples == reached
    except InvalidMessage:
        pass


def test_a_flood_of_messages_is_out_of_order() -> None:
    course = MessageOrder(window_s=30.0)

    def flood() -> None:
        for number in range(100):
            course.check(Decoded(number + 1), 10**9)

    with pytest.raises(InvalidMessage):
        flood()


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=60),
    st.sampled_from([1.0, 10.0, 30.0]),
    st.integers(0, 1000),
)
@settings(max_examples=200)
def test_messages_of_packed_windows_are_in_order(
    speech: list[tuple[int, int]], window_s: float, padding_ms: int
) -> None:
    """`speech`: lengths of silence and speech in turns, in tenths of a second."""
    options = VadOptions(window_s=window_s, prefix_padding_ms=padding_ms)
    packer, course = WindowPacker(options), MessageOrder(window_s)
    events: list[SpeechStart | SpeechEnd] = []
    position = 0
    for silent, spoken in speech:
        events.append(SpeechStart(position + silent * 1_600))
        position += (silent + spoken) * 1_600
        events.append(SpeechEnd(position))
    audio = tone(10)
    done = 0
    while done < position:
        block = audio[: position - done]
        done += len(block)
        course.check(Decoded(done), done)
        now = [event for event in events if event.sample <= done]
        events = events[len(now) :]
        for window in packer.feed(block, now):
            course.check(WindowFound(window), done)
    for window in packer.close(events):
        course.check(WindowFound(window), done)
    course.check(Done(done, None), done)


@pytest.mark.parametrize(
    "error",
    [
        UndecodableAudio("It contains no audio."),
        UndecodableAudio(),
        AudioTooShort(),
        AudioTooLong(25.0),
        Unavailable("Decoded audio can't be stored: No space left on device."),
    ],
)
def test_an_error_of_the_file_arrives_as_the_same(error: SottoError) -> None:
    sent = decode(encode(failure(error)))
    assert isinstance(sent, Failed)
    assert repr(error_of(sent, 25.0)) == repr(error)


def test_a_request_arrives_as_it_was_sent() -> None:
    options = ScanOptions(VadOptions(enabled=False, threshold=0.25, window_s=10.0), limit_s=float("inf"), mels=128)
    order = ScanRequest(options, ProcessLimits(1, 2, 3))
    assert decode_request(encode_request(order)) == order
