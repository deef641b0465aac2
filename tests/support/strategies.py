"""Windows for tests: one by hand, and any."""

from hypothesis import strategies as st

from server.transcript import SAMPLE_RATE, Span, Window

SECOND = SAMPLE_RATE


# 1 s, 2 s and 3 s of speech at 10 s, 20 s and 30 s of the file
THREE = Window(4, (Span(10 * SECOND, 11 * SECOND), Span(20 * SECOND, 22 * SECOND), Span(30 * SECOND, 33 * SECOND)))


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Windows of up to five spans of at least 10 ms, with at least 10 ms between them."""
    pieces = draw(st.lists(st.tuples(st.integers(160, 10**7), st.integers(160, 10**5)), min_size=1, max_size=5))
    spans: list[Span] = []
    position = 0
    for gap, length in pieces:
        spans.append(Span(position + gap, position + gap + length))
        position += gap + length
    return Window(0, tuple(spans))
