"""The seek loop of openai/whisper, with results made by hand."""

from collections.abc import Iterable

import pytest

from server.options import MAX_PROMPT, DecodingOptions
from server.transcript import MAX_FRAMES, SAMPLE_RATE, Segment, Span, Window, WindowResult
from server.transcription.sequential import cut, in_sequence

SECOND = SAMPLE_RATE
OPTIONS = DecodingOptions(condition_on_previous_text=True, prompt="Names: Anna.")


def segment(tokens: Iterable[int]) -> Segment:
    return Segment(0, 0, 0.0, 1.0, " word", tuple(tokens), 0.0, -0.1, 1.0, 0.0)


def result(consumed_s: float, *tokens: int, **fields: object) -> WindowResult:
    return WindowResult(
        (segment(tokens),) if tokens else (),
        "en",
        int(consumed_s * SECOND),
        **fields,  # type: ignore[arg-type]  # passed through
    )


def run(total_s: float, *results: WindowResult) -> list[tuple[Window, DecodingOptions]]:
    """What is asked for while `results` are the answers."""
    steps = in_sequence([Span(0, int(total_s * SECOND))], OPTIONS, 1.5)
    asked = [next(steps)]
    for one in results:
        try:
            asked.append(steps.send(one))
        except StopIteration:
            break
    return asked


def test_the_next_window_begins_where_the_last_segment_ended() -> None:
    asked = run(70, result(28.5, 1), result(30, 2), result(11.5, 3))
    assert [(w.start_s, w.duration_s) for w, _ in asked] == [(0, 30), (28.5, 30), (58.5, 11.5)]
    assert [options.clock_s for _, options in asked] == [0, 28.5, 58.5]
    assert {window.mel_max for window, _ in asked} == {1.5}


def test_previous_text_prompts_the_next_window_after_the_users_prompt() -> None:
    asked = run(90, result(30, 1, 2), result(30, 3), result(30, 4))
    assert [options.previous_tokens for _, options in asked] == [(), (1, 2), (1, 2, 3)]
    assert [options.prompt for _, options in asked] == ["Names: Anna."] * 3


def test_previous_text_is_limited_to_the_length_of_a_prompt() -> None:
    asked = run(120, result(30, *range(200)), result(30, *range(200, 400)), result(30, *range(400, 410)))
    assert [options.previous_tokens for _, options in asked] == [
        (),
        tuple(range(200)),
        tuple(range(400 - MAX_PROMPT, 400)),
        tuple(range(410 - MAX_PROMPT, 410)),
    ]


def test_text_of_a_high_temperature_is_dropped_and_the_prompt_too() -> None:
    asked = run(90, result(30, 1), result(30, 2, temperature=0.6), result(30, 3))
    assert [options.previous_tokens for _, options in asked] == [(), (1,), ()]
    assert asked[-1][1].prompt == ""


def test_silence_advances_by_a_window_and_keeps_the_previous_text() -> None:
    asked = run(90, result(30, 1), WindowResult((), "en", 30 * SECOND, silent=True, temperature=1.0), result(30, 2))
    assert [options.previous_tokens for _, options in asked] == [(), (1,), (1,)]
    assert [window.start_s for window, _ in asked] == [0, 30, 60]


def test_a_window_left_open_goes_on_behind_its_last_word() -> None:
    first = WindowResult((segment([1]),), "en", 20 * SECOND, open_ended=True, words_end=24.36)
    asked = run(60, first, result(30, 2))
    assert asked[1][0].start_s == 24.36
    assert asked[1][1].last_speech_s == pytest.approx(24.36)


@pytest.mark.parametrize(
    ("open_ended", "words_end", "start_s"),
    [(True, 0.72, 0.72), (True, 0.0, 30.0), (True, None, 30.0), (False, 0.72, 30.0)],
)
def test_a_window_without_segments_goes_on_behind_what_was_dropped(
    open_ended: bool, words_end: float | None, start_s: float
) -> None:
    first = WindowResult((), "en", 30 * SECOND, open_ended=open_ended, words_end=words_end)
    asked = run(60, first, result(30, 2))
    assert asked[1][0].start_s == start_s


@pytest.mark.parametrize("words_end", [None, 58.0, 58.004])
def test_the_seek_position_always_advances(words_end: float | None) -> None:
    asked = run(120, result(58, 1), result(0, 2, open_ended=True, words_end=words_end), result(30, 3))
    assert [window.start_s for window, _ in asked] == [0, 58, 88, 118]


def test_ends_of_words_are_by_the_clock_that_windows_are_given() -> None:
    asked = run(120, result(0.35, 1), result(20, 2, open_ended=True, words_end=21.5), result(30, 3))
    assert [window.start_s for window, _ in asked][:3] == [0, 0.35, 21.5]
    assert [options.last_speech_s for _, options in asked][:3] == [0, 0, 21.5]
    assert asked[1][1].clock_s == 35 * 0.01 != 0.35  # faster-whisper's, to the bit: it compares sums of it


def test_the_first_windows_language_is_everyones() -> None:
    asked = run(60, WindowResult((segment([1]),), "de", 30 * SECOND), result(30, 2))
    assert [options.language for _, options in asked] == [None, "de"]


def test_less_than_a_frame_is_not_asked_for() -> None:
    steps = in_sequence([Span(0, 100)], OPTIONS, None)
    assert next(steps, None) is None


def test_windows_run_over_cut_silence() -> None:
    speech = [Span(0, 20 * SECOND), Span(100 * SECOND, 115 * SECOND)]
    steps = in_sequence(speech, OPTIONS, None)
    window, _ = next(steps)
    assert window.spans == (Span(0, 20 * SECOND), Span(100 * SECOND, 110 * SECOND))
    assert window.length == MAX_FRAMES * 160
    window, _ = steps.send(result(30, 1))
    assert window.spans == (Span(110 * SECOND, 115 * SECOND),)


def test_cut_begins_inside_a_span() -> None:
    assert cut([Span(0, 10), Span(20, 30)], 4, 8) == (Span(4, 10), Span(20, 22))
    assert cut([Span(0, 10), Span(20, 30)], 10, 5) == (Span(20, 25),)
