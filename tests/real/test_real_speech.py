"""Real speech: no worse than faster-whisper as it is, on the same files in the same run (docs/accuracy.md)."""

from statistics import median

import pytest

from benchmarks.truth.comparison import Comparison
from benchmarks.truth.recordings import GROUPS, OTHER

pytestmark = [pytest.mark.real, pytest.mark.timeout(3000)]  # the first test waits for the comparison

TOTAL_POINTS = 0.3
GROUP_POINTS = 1.0
LANGUAGES = 2  # recordings of 244
START_S = 0.02


def test_word_error_rate_is_that_of_faster_whisper(comparison: Comparison) -> None:
    (scores,) = comparison.by(lambda _: "all").values()
    assert scores.ours.words > 4500
    assert scores.excess <= TOTAL_POINTS, scores


@pytest.mark.parametrize("group", [*GROUPS, OTHER])
def test_no_language_group_falls_behind(comparison: Comparison, group: str) -> None:
    scores = comparison.by(lambda recording: recording.group)[group]
    assert scores.excess <= GROUP_POINTS, scores


def test_no_words_are_invented_where_faster_whisper_is_silent(comparison: Comparison) -> None:
    assert len(comparison.wordless) == 32
    assert [(pair.recording.name, pair.ours.text) for pair in comparison.invented_by_ours_alone] == []


def test_languages_are_detected_as_often_as_by_faster_whisper(comparison: Comparison) -> None:
    ours, stock = comparison.languages_right
    assert len(comparison.detected) > 200
    assert ours >= stock - LANGUAGES


def test_words_start_where_they_do_with_faster_whisper(comparison: Comparison) -> None:
    ours, stock = comparison.start_errors()
    assert len(ours) > 80
    assert median(ours) <= median(stock) + START_S
