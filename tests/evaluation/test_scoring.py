"""Word errors after Whisper's normalizers, invented words, and errors of word times."""

import math
from pathlib import Path
from typing import Any

import pytest

from server.evaluation.recordings import LabeledRecording, TimedWord, labeled
from server.evaluation.scoring import Hypothesis, Score, invented_words, score, time_errors
from server.transcript import Segment, Transcript, Word


def recording(text: str, language: str = "en", **fields: Any) -> LabeledRecording:
    return labeled({"file": "a.wav", "language": language, "text": text} | fields, Path())


def errors_in(reference: LabeledRecording, text: str, language: str = "") -> tuple[int, int]:
    """Errors, and the words that they are counted over."""
    found = score(reference, Hypothesis(text, language))
    return found.errors, found.words


@pytest.mark.parametrize(
    ("text", "language", "said", "errors", "words"),
    [
        ("Twenty-three colours, uh, it's", "en", "23 colors it is", 0, 4),
        ("one word missing here", "en", "one word here", 1, 4),
        ("a b", "en", "[Music] a b", 0, 2),
        ("Größe, l'été", "fr", "grösse l’été", 1, 3),
        ("我們說漢語", "zh", "我们说汉话。", 1, 5),
        ("我們說漢語", "yue", "我们说汉语", 0, 5),
        ("判断的知識", "ja", "判断 知識", 1, 5),
    ],
)
def test_words_are_compared_after_whisper_s_normalizers(
    text: str, language: str, said: str, errors: int, words: int
) -> None:
    assert errors_in(recording(text, language), said) == (errors, words)


def test_substitutions_insertions_and_deletions_are_counted_apart() -> None:
    found = score(recording("red green blue black"), Hypothesis("red grey blue or black", "en"))
    assert found == Score(substitutions=1, insertions=1, words=4)
    missing = score(recording("red green blue black"), Hypothesis("green black", "en"))
    assert missing == Score(deletions=2, words=4)
    assert (found + missing).percent == pytest.approx(50)


def test_the_best_spelling_counts() -> None:
    reference = recording("minuteur 1 heure", "fr", also=["minuteur une heure"])
    assert errors_in(reference, "minuteur une heure") == (0, 3)


def test_words_in_place_of_none_are_insertions() -> None:
    found = score(recording("[laughter]", also="(laughs)"), Hypothesis("thank you", "en"))
    assert found == Score(insertions=2)
    assert math.isnan(found.percent)


def test_the_detected_language_selects_the_normalizer_if_the_manifest_names_none() -> None:
    nameless = recording("twenty-three colours", language="")
    assert errors_in(nameless, "23 colors", "en") == (0, 2)
    assert errors_in(nameless, "23 colors", "de") == (3, 3)
    assert errors_in(recording("twenty-three colours", language="de"), "23 colors", "en") == (3, 3)


@pytest.mark.parametrize(
    ("said", "errors"), [("One, oh, three", 0), ("1-0-3", 0), ("103", 0), ("104", 1), ("103 thank you", 2)]
)
def test_digits_are_compared_one_by_one(said: str, errors: int) -> None:
    assert errors_in(recording("one zero three", digits="103"), said) == (errors, 3)


@pytest.mark.parametrize(
    ("said", "invented"),
    [("", []), ("[BLANK_AUDIO] ♪♪", []), ("Ha ha, hahaha! Hehe.", []), ("Haha, he is", ["he", "is"])],
)
def test_laughter_and_remarks_in_brackets_are_not_invented(said: str, invented: list[str]) -> None:
    assert invented_words(said) == invented


def test_time_errors_are_those_of_words_that_were_recognized() -> None:
    said = recording("one two three", words=[["One", 0.0, 0.3], ["two,", 0.5, 0.8], ["three", 1.0, 1.4]])
    found = [TimedWord(" one", 0.1, 0.3), TimedWord(" too", 0.5, 0.8), TimedWord(" three.", 0.75, 1.5)]
    errors = time_errors(said, found)
    assert [error.start for error in errors] == pytest.approx([0.1, -0.25])
    assert [error.end for error in errors] == pytest.approx([0.0, 0.1])


def test_a_hypothesis_has_the_text_language_length_and_words_of_a_transcript() -> None:
    words = (Word(" Ja", 0.1, 0.4, 0.9),)
    segment = Segment(0, 0, 0.0, 1.0, " Ja", (), 0.0, 0.0, 1.0, 0.0, words=words)
    made = Hypothesis.of(Transcript("transcribe", "nl", 0.9, 2.0, (segment,)))
    assert made == Hypothesis("Ja", "nl", 2.0, (TimedWord(" Ja", 0.1, 0.4),))
