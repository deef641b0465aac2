"""The figures of one model, and all of them as JSON."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from server.evaluation.recordings import TimedWord, labeled
from server.evaluation.report import EvaluationReport, ScoredRecording, TimeAccuracy, as_json
from server.evaluation.scoring import Hypothesis, Score


def scored(text: str | None, said: str, *, heard_as: str = "en", words: Any = (), **entry: Any) -> ScoredRecording:
    reference = labeled({"file": "a.wav", "language": "en", "text": text} | entry, Path())
    return ScoredRecording.of(reference, Hypothesis(said, heard_as, 30.0, words))


def report(*results: ScoredRecording, **fields: Any) -> EvaluationReport:
    return EvaluationReport("small", results, **fields)


def test_errors_are_summed_over_words_and_by_language_and_kind() -> None:
    whole = report(
        scored("a b c d e f g h", "a b c d e f g h", kind="long"),
        scored("i j", "i", kind="phone"),
        scored("ja", "nein", language="de", kind="phone"),
        scored(None, "whatever", language="fr"),
    )
    assert whole.score == Score(substitutions=1, deletions=1, words=11)
    assert whole.by_language == {"de": Score(substitutions=1, words=1), "en": Score(deletions=1, words=10)}
    assert whole.by_kind == {"long": Score(words=8), "phone": Score(substitutions=1, deletions=1, words=3)}


def test_words_in_recordings_without_speech_are_not_word_errors() -> None:
    noise = report(scored("", "Thank you."), scored("", "(music)"))
    assert (noise.score, len(noise.wordless)) == (Score(), 2)
    assert [each.invented for each in noise.results] == [("thank", "you"), ()]


def test_languages_count_if_known_detected_and_spoken() -> None:
    results = (scored("a", "a"), scored(None, "b", heard_as="nl"), scored("", "c"), scored("a", "a", language=""))
    assert [each.is_language_right for each in report(*results).detected] == [True, False]
    assert report(*results, detects=False).detected == []


def test_speed_is_audio_over_time() -> None:
    assert report(scored("a", "a"), scored("a", "a"), wall_s=20.0).speed == pytest.approx(3)
    assert math.isnan(report(scored("a", "a")).speed)


def test_times_are_those_of_words_in_both_alignments() -> None:
    words = [["red", 0.0, 0.3], ["blue", 0.5, 0.9]]
    found = (TimedWord(" red", 0.04, 0.5), TimedWord(" blue.", 0.62, 0.9))
    times = report(scored("red blue", "red blue", words=found), scored("a", "a")).times
    assert times == {}  # the manifest has none
    alone = ScoredRecording.of(
        labeled({"file": "a.wav", "text": "red blue", "words": words}, Path()),
        Hypothesis("red blue", "en", words=found),
    )
    start, end = report(alone).times.values()
    assert (start.words, start.within) == (2, (0.5, 0.5, 1.0))
    assert [start.bias_s, start.median_s] == pytest.approx([0.08, 0.08])
    assert (end.words, end.within) == (2, (0.5, 0.5, 0.5))
    assert [end.bias_s, end.median_s] == pytest.approx([0.1, 0.1])


def test_bias_keeps_the_sign_and_the_median_error_does_not() -> None:
    accuracy = TimeAccuracy.of([-0.2, -0.1, 0.12])
    assert (accuracy.bias_s, accuracy.median_s, accuracy.within) == (-0.1, 0.12, (0.0, 1 / 3, 2 / 3))


def test_json_has_everything_and_is_valid() -> None:
    whole = report(
        scored("a b", "a", words=(TimedWord(" a", 0.1, 0.2),), also=["a c"]),
        scored("", "Thank you.", file="b.wav", language=None, kind="noise"),
        failed=(("c.wav", "broken"),),
        wall_s=2.0,
    )
    written = json.loads(json.dumps(as_json(whole), allow_nan=False))
    assert (written["model"], written["word_error_rate"], written["deletions"], written["words"]) == (
        "small",
        0.5,
        1,
        2,
    )
    assert (written["invented_words"], written["wordless_recordings"]) == (2, 1)
    assert (written["languages_right"], written["languages_detected"]) == (1, 1)
    assert written["failed"] == [{"file": "c.wav", "reason": "broken"}]
    spoken, noise = written["recordings"]
    assert spoken["references"] == ["a b", "a c"]
    assert (spoken["hypothesis"], spoken["hypothesis_language"], spoken["language"]) == ("a", "en", "en")
    assert (spoken["errors"], spoken["duration_s"]) == (1, 30.0)
    assert spoken["timed_words"] == [{"word": " a", "start": 0.1, "end": 0.2}]
    assert (noise["kind"], noise["is_wordless"], noise["invented"]) == ("noise", True, ["thank", "you"])
    assert "errors" not in noise
    assert as_json(report(scored("", "")))["word_error_rate"] is None
