"""When a decoding is kept and when it is tried again: faster-whisper's table."""

from dataclasses import replace

import pytest

from server.options import DecodingOptions
from server.transcript import Span, Window
from server.whisper.decoding import DecodingResult, Prompt, WindowState, prompt_of

OPTIONS = DecodingOptions()
GOOD = DecodingResult((1, 2), "two words", -0.2, 1.2, 0.01, 0.0)


def decoded(
    logprob: float, compression: float = 1.0, no_speech: float = 0.0, temperature: float = 0.0, tokens: int = 21
) -> DecodingResult:
    return DecodingResult((1,) * tokens, "word", logprob, compression, no_speech, temperature)


def window_state(options: DecodingOptions = OPTIONS, frames: int = 3000) -> WindowState:
    return WindowState(Window(0, (Span(0, 16000),)), options, frames)


@pytest.mark.parametrize(
    ("one", "failed", "silence"),
    [
        (decoded(-0.5), False, False),
        (decoded(-1.0), False, False),  # the threshold itself is good enough
        (decoded(-1.01), True, False),
        (decoded(-0.5, compression=2.4), False, False),
        (decoded(-0.5, compression=2.41), True, False),
        (decoded(-1.01, no_speech=0.6), True, False),
        (decoded(-1.01, no_speech=0.6, tokens=20), False, True),  # not tried again: sampling may invent more
        (decoded(-0.6, no_speech=0.41, tokens=20), False, True),  # noise that is thanked for
        (decoded(-0.59, no_speech=0.9, tokens=20), False, False),
        (decoded(-0.9, no_speech=0.4, tokens=20), False, False),
        (decoded(-1.01, no_speech=0.61), False, True),  # silence is no failure
        (decoded(-0.5, no_speech=0.99), False, False),  # sure of its words: the model is believed
        (decoded(-1.01, compression=3.0, no_speech=0.61), False, True),
    ],
)
def test_a_result_fails_or_is_silence_by_the_thresholds(one: DecodingResult, failed: bool, silence: bool) -> None:
    assert one.failed(OPTIONS) is failed
    assert one.is_silence(OPTIONS) is silence


def test_a_good_first_attempt_is_kept() -> None:
    state = window_state()
    state.add_attempt(GOOD)
    assert state.decoded is GOOD


def test_a_failed_attempt_leads_to_the_next_temperature() -> None:
    state = window_state()
    state.add_attempt(decoded(-2.0))
    assert state.decoded is None
    assert state.temperature == 0.2
    state.add_attempt(replace(GOOD, temperature=0.2))
    assert state.decoded == replace(GOOD, temperature=0.2)


def test_of_failed_attempts_the_most_probable_without_repetition_is_kept() -> None:
    state = window_state(DecodingOptions(temperatures=(0.0, 0.2, 0.4)))
    state.add_attempt(decoded(-0.1, compression=9.0))
    state.add_attempt(decoded(-1.5, temperature=0.2))
    state.add_attempt(decoded(-1.9, temperature=0.4))
    assert state.decoded == decoded(-1.5, temperature=0.4)


def test_of_repetitive_attempts_the_most_probable_is_kept() -> None:
    state = window_state(DecodingOptions(temperatures=(0.0, 0.2)))
    state.add_attempt(decoded(-0.1, compression=9.0))
    state.add_attempt(decoded(-0.3, compression=9.0, temperature=0.2))
    assert state.decoded == decoded(-0.1, compression=9.0, temperature=0.2)


@pytest.mark.parametrize("bad", [decoded(-2.0), decoded(-0.1, compression=9.0), decoded(-2.0, no_speech=0.9)])
def test_a_failure_with_a_short_encoder_window_is_no_attempt(bad: DecodingResult) -> None:
    state = window_state(frames=1000)
    state.encoded = object()
    state.add_attempt(bad)
    assert (state.frames, state.encoded, state.attempts) == (3000, None, [])
    state.add_attempt(GOOD)
    assert state.decoded is GOOD


EMPTY = DecodingResult((), "", -0.3, 0.0, 0.02, 0.0)
PROMPT = Prompt((7, 8, 9), own=2)


def prompted(prompt: Prompt = PROMPT) -> WindowState:
    state = window_state(DecodingOptions(temperatures=(0.0, 0.2)))
    state.prompt = prompt
    return state


def test_a_prompt_that_leaves_no_text_is_dropped_and_counts_all_the_same() -> None:
    state = prompted()
    state.add_attempt(EMPTY)
    assert (state.decoded, state.attempts, state.temperature) == (None, [], 0.0)
    assert state.prompt == Prompt((), own=2)
    state.add_attempt(decoded(-2.0))
    assert (state.decoded, state.temperature) == (None, 0.2)
    state.add_attempt(GOOD)
    assert state.decoded is GOOD


@pytest.mark.parametrize("without", [EMPTY, decoded(-0.5, no_speech=0.61), decoded(-2.0, no_speech=0.9)])
def test_text_from_silence_without_the_prompt_is_dropped(without: DecodingResult) -> None:
    state = prompted()
    state.add_attempt(EMPTY)
    state.add_attempt(without)
    assert state.decoded is not None
    assert state.decoded.text == ""


@pytest.mark.parametrize("prompt", [Prompt(), Prompt((7, 8, 9), own=0)], ids=["none", "of earlier windows"])
def test_no_text_is_kept_where_the_caller_has_no_part_in_the_prompt(prompt: Prompt) -> None:
    state = prompted(prompt)
    state.add_attempt(EMPTY)
    assert state.decoded is EMPTY


def test_text_is_kept_with_its_prompt() -> None:
    state = prompted()
    state.add_attempt(GOOD)
    assert (state.decoded, state.prompt) == (GOOD, PROMPT)


def test_detection_decides_among_the_languages_that_were_named() -> None:
    state = window_state(DecodingOptions(languages=("de", "es")))
    state.detect([("en", 0.6), ("es", 0.3), ("de", 0.1)])
    assert state.options.language == "es"
    assert state.language_probs == (("es", 0.3), ("de", 0.1))


@pytest.mark.parametrize(
    ("prompt", "hotwords", "said", "kept", "own"),
    [
        (0, 0, 0, (0, 0, 0), 0),
        (5, 3, 0, (3, 5, 0), 8),
        (5, 3, 7, (3, 5, 7), 8),  # what was said is not the caller's
        (500, 0, 0, (0, 223, 0), 223),
        (0, 500, 0, (223, 0, 0), 223),
        (100, 500, 0, (123, 100, 0), 223),
        (500, 500, 0, (64, 223, 0), 287),  # hotwords take nothing from a prompt, nor do they vanish beside it
        (500, 3, 0, (3, 223, 0), 226),
        (100, 0, 200, (0, 23, 200), 23),
        (100, 3, 500, (3, 0, 223), 3),
        (0, 500, 500, (64, 0, 223), 64),
    ],
)
def test_a_prompt_is_the_first_hotwords_and_the_end_of_what_goes_before(
    prompt: int, hotwords: int, said: int, kept: tuple[int, int, int], own: int
) -> None:
    before, words, text = range(1_000, 1_000 + prompt), range(2_000, 2_000 + hotwords), range(3_000, 3_000 + said)
    made = prompt_of(before, words, text)
    first, middle, last = kept
    assert made.tokens == (*words[:first], *before[prompt - middle :], *text[said - last :])
    assert made.own == own


def test_only_previous_text_is_cut_to_the_bucket() -> None:
    made = prompt_of(range(10), range(20, 25), range(100, 150), bucket=16)
    assert made.tokens == (*range(20, 25), *range(10), *range(102, 150))
    assert made.own == 15
