"""How transcripts of real recordings are compared with faster-whisper's: groups, tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_truth import write
from benchmarks.truth import recordings
from benchmarks.truth.comparison import Comparison, Pair
from benchmarks.truth.recordings import group_of
from benchmarks.truth.tables import tables
from benchmarks.truth.transcribers import Run, is_decodable
from server.evaluation.recordings import LabeledRecording, TimedWord, labeled
from server.evaluation.scoring import Hypothesis, Score
from tests.conftest import DATA


def recording(text: str = "", language: str = "en", kind: str = "read", **fields: Any) -> LabeledRecording:
    entry = {"file": "a.wav", "language": language, "kind": kind, "text": text}
    return labeled(entry | fields, Path())


def pair(of: LabeledRecording, ours: str, stock: str, language: str = "en") -> Pair:
    return Pair(of, Hypothesis(ours, language), Hypothesis(stock, "en"))


def _timed(word: str) -> Hypothesis:
    """One word, taken for Dutch, that starts at 80 ms."""
    return Hypothesis(word, "nl", words=(TimedWord(f" {word}", 0.08, 0.3),))


def test_the_manifest_is_read(tmp_path: Path) -> None:
    lines = [
        {"file": "a.wav", "language": "nl", "kind": "read", "seconds": 3.5, "text": "Ja"},
        {"file": "b.wav", "language": "de", "kind": "phone", "seconds": 2.0},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spoken, unstated = recordings.load(tmp_path)
    assert (spoken.path, group_of(spoken), spoken.references) == (tmp_path / "a.wav", "other", ("Ja",))
    assert (group_of(unstated), unstated.references) == ("de", ())


def test_scores_of_a_group_are_weighted_by_words() -> None:
    pairs = (
        pair(recording("a b c d e f g h", kind="long"), "a b c d e f g h", "a b c d"),
        pair(recording("i j"), "i", "i j"),
        pair(recording("ja", "de"), "nein", "ja"),
    )
    groups = Comparison(pairs, Run(), Run()).by(group_of)
    assert (groups["en"].ours, groups["en"].stock) == (Score(deletions=1, words=10), Score(deletions=4, words=10))
    assert groups["en"].excess == pytest.approx(-30)
    assert groups["de"].excess == pytest.approx(100)


def test_invented_words_and_what_is_worse_are_found() -> None:
    noise = recording(kind="noise")
    pairs = (
        pair(noise, "Thank you.", ""),
        pair(noise, "Thank you.", "You"),
        pair(noise, "", "You"),
        pair(recording("a b"), "a b", "a"),
        worse := pair(recording("c d"), "c", "c d"),
    )
    comparison = Comparison(pairs, Run(), Run())
    assert comparison.invented_by_ours_alone == [pairs[0]]
    assert comparison.worse == [worse]


def test_tables_hold_every_figure_and_go_between_a_document_s_marks(tmp_path: Path) -> None:
    pairs = (
        Pair(recording("red blue", words=[["red", 0.0, 0.3]]), red := _timed("red"), red),
        pair(recording(kind="noise"), "Thank | you", ""),
    )
    text = tables(Comparison(pairs, Run(wall_s=3.0), Run(cpu_s=4.0), refused=(recording(),)))
    assert "given to neither: a.wav." in text
    assert "| English | 2 | 50.0 % (1) | 50.0 % (1) | +0.0 |" in text
    assert "Sotto 2 words in 1 recordings, faster-whisper 0 in 0" in text
    assert "| `a.wav` | Thank \\| you | – |" in text
    assert "Right in 0 of 1 recordings with Sotto, in 0 with faster-whisper." in text
    assert "| start of words, Sotto | +80 ms | 80 ms | 0 % | 100 % | 100 % |" in text
    assert "| end of words, Sotto | +0 ms | 0 ms | 100 % | 100 % | 100 % |" in text

    document = tmp_path / "accuracy.md"
    document.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    write(text, document)
    assert document.read_text() == f"before\n<!-- figures -->\n\n{text}\n<!-- end of figures -->\nafter\n"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="no place"):
        write(text, document)


def test_a_file_that_our_decoder_refuses_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"NIST_1A\n   1024\n")
    assert not is_decodable(labeled({"file": "a.wav"}, tmp_path))
    assert is_decodable(labeled({"file": "silence_10s.wav"}, DATA))
