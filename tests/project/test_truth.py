"""How transcripts of real recordings are scored: the manifest, word errors, invented words, times."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_truth import write
from benchmarks.truth import recordings
from benchmarks.truth.comparison import Comparison, Pair
from benchmarks.truth.recordings import Recording, TimedWord
from benchmarks.truth.scoring import Score, invented_words, score, start_errors
from benchmarks.truth.tables import tables
from benchmarks.truth.transcribers import Hypothesis, Run, is_decodable
from tests.conftest import DATA


def recording(text: str = "", language: str = "en", kind: str = "read", **fields: Any) -> Recording:
    entry = {"file": "a.wav", "language": language, "kind": kind, "seconds": 2.0, "text": text}
    return Recording.of(entry | fields, Path())


def pair(of: Recording, ours: str, stock: str, language: str = "en") -> Pair:
    return Pair(of, Hypothesis(ours, language), Hypothesis(stock, "en"))


def _timed(word: str) -> Hypothesis:
    """One word, taken for Dutch, that starts at 80 ms."""
    return Hypothesis(word, "nl", (TimedWord(f" {word}", 0.08, 0.3),))


def test_the_manifest_is_read(tmp_path: Path) -> None:
    lines = [
        {
            "file": "a.wav",
            "language": "nl",
            "kind": "read",
            "seconds": 3.5,
            "text": "Ja",
            "words": [["ja", 0.1, 0.4]],
        },
        {"file": "b.wav", "language": "", "kind": "noise", "seconds": 1.0, "text": ""},
        {"file": "c.wav", "language": "de", "kind": "phone", "seconds": 2.0},
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spoken, noise, unstated = recordings.load(tmp_path)
    assert (spoken.path, spoken.group) == (tmp_path / "a.wav", "other")
    assert (spoken.references, spoken.words) == (("Ja",), (TimedWord("ja", 0.1, 0.4),))
    assert noise.is_wordless
    assert not noise.references
    assert (unstated.group, unstated.is_wordless, unstated.references) == ("de", False, ())


@pytest.mark.parametrize(
    ("text", "language", "said", "errors", "words"),
    [
        ("Twenty-three colours, uh, it's", "en", "23 colors it is", 0, 4),
        ("one word missing here", "en", "one word here", 1, 4),
        ("a b", "en", "[Music] a b", 0, 2),
        ("Größe, l'été", "fr", "grösse l’été", 1, 3),
        ("我們說漢語", "zh", "我们说汉话。", 1, 5),
        ("判断的知識", "ja", "判断 知識", 1, 5),
    ],
)
def test_words_are_compared_after_whisper_s_normalisers(
    text: str, language: str, said: str, errors: int, words: int
) -> None:
    assert score(recording(text, language), said) == Score(errors, words)


def test_the_best_spelling_counts() -> None:
    assert score(recording("minuteur 1 heure", "fr", also=["minuteur une heure"]), "minuteur une heure").errors == 0


@pytest.mark.parametrize(
    ("said", "errors"), [("One, oh, three", 0), ("1-0-3", 0), ("103", 0), ("104", 1), ("103 thank you", 2)]
)
def test_digits_are_compared_one_by_one(said: str, errors: int) -> None:
    assert score(recording("one zero three", digits="103"), said) == Score(errors, 3)


@pytest.mark.parametrize(
    ("said", "invented"),
    [("", []), ("[BLANK_AUDIO] ♪♪", []), ("Ha ha, hahaha! Hehe.", []), ("Haha, he is", ["he", "is"])],
)
def test_laughter_and_remarks_in_brackets_are_not_invented(said: str, invented: list[str]) -> None:
    assert invented_words(said) == invented


def test_start_errors_are_those_of_words_that_were_recognised() -> None:
    said = recording("one two three", words=[["One", 0.0, 0.3], ["two,", 0.5, 0.8], ["three", 1.0, 1.4]])
    found = [TimedWord(" one", 0.1, 0.3), TimedWord(" too", 0.5, 0.8), TimedWord(" three.", 0.75, 1.5)]
    assert start_errors(said, found) == pytest.approx([0.1, 0.25])


def test_scores_of_a_group_are_weighted_by_words() -> None:
    pairs = (
        pair(recording("a b c d e f g h", kind="long"), "a b c d e f g h", "a b c d"),
        pair(recording("i j"), "i", "i j"),
        pair(recording("ja", "de"), "nein", "ja"),
    )
    groups = Comparison(pairs, Run(), Run()).by(lambda one: one.group)
    assert (groups["en"].ours, groups["en"].stock) == (Score(1, 10), Score(4, 10))
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
    assert "| Sotto | 1 | 80 ms | 0 % | 100 % |" in text

    document = tmp_path / "accuracy.md"
    document.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    write(text, document)
    assert document.read_text() == f"before\n<!-- figures -->\n\n{text}\n<!-- end of figures -->\nafter\n"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="no place"):
        write(text, document)


def test_a_file_that_our_decoder_refuses_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"NIST_1A\n   1024\n")
    entry = {"file": "a.wav", "language": "en", "kind": "read", "seconds": 2.0}
    assert not is_decodable(Recording.of(entry, tmp_path))
    assert is_decodable(Recording.of(entry | {"file": "silence_10s.wav"}, DATA))
