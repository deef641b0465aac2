"""Several models side by side: rows that apply, lists of recordings, cells that a terminal can show."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from server.evaluation.recordings import TimedWord, labeled
from server.evaluation.report import EvaluationReport, ScoredRecording
from server.evaluation.scoring import Hypothesis
from server.evaluation.tables import tables


def scored(name: str, text: str, said: str, *, heard_as: str = "en", **entry: Any) -> ScoredRecording:
    reference = labeled({"file": name, "language": "en", "text": text} | entry, Path())
    words = tuple(TimedWord(each, number + 0.08, number + 0.5) for number, each in enumerate(said.split()))
    return ScoredRecording.of(reference, Hypothesis(said, heard_as, 90.0, words))


def report(model: str, *results: ScoredRecording, **fields: Any) -> EvaluationReport:
    return EvaluationReport(model, results, **fields)


def rows(text: str) -> dict[str, list[str]]:
    """Cells of all tables, by the first cell of their row."""
    lines = (line for line in text.splitlines() if line.startswith("|"))
    cells = ([cell.strip() for cell in line.split(" | ")] for line in lines)
    return {first.strip("| "): [cell.strip("| ") for cell in others] for first, *others in cells}


def test_figures_of_two_models_are_side_by_side() -> None:
    red: dict[str, Any] = {"words": [["red", 0.0, 0.5]]}
    text = tables(
        [
            report("base", scored("a", "red", "red", **red), scored("b", "x y", "x", kind="phone"), wall_s=90.0),
            report("small", scored("a", "red", "blue"), failed=(("b", "broken"),)),
        ]
    )
    found = rows(text)
    assert found["recordings"] == ["2", "1 of 2"]
    assert found["audio"] == ["3.0 min", "1.5 min"]
    assert found["speed"] == ["2.0 x", "-"]
    assert found["word error rate"] == ["33.3 % (1 of 3)", "100.0 % (1 of 1)"]
    assert found["substituted, deleted, inserted"] == ["0, 1, 0", "1, 0, 0"]
    assert found["kind phone"] == ["50.0 % (1 of 2)", "-"]
    assert found["kind not named"] == ["0.0 % (0 of 1)", "100.0 % (1 of 1)"]
    assert found["language detected"] == ["2 of 2", "1 of 1"]
    assert found["starts of words: bias"] == ["+80 ms", "-"]
    assert found["starts of words: median error"] == ["80 ms", "-"]
    assert found["starts of words: within 50 ms"] == ["0 %", "-"]
    assert found["ends of words: within 50 ms"] == ["100 %", "-"]
    assert (found["a"], found["b"]) == (["0 of 1", "1 of 1"], ["1 of 2", "-"])  # those with the most errors


def test_rows_that_apply_to_no_model_are_left_out() -> None:
    found = rows(tables([report("base", scored("a", "red", "red", language=""))]))
    assert list(found) == ["", "-" * 30, "recordings", "audio", "word error rate", "substituted, deleted, inserted"]


def test_the_worst_recordings_come_first_and_ten_at_most() -> None:
    results = [scored(f"{number}.wav", "a " * 12, "a " * (12 - number)) for number in range(12)]
    lines = tables([report("base", *results)]).partition("Most word errors:")[2].splitlines()
    assert [line.split("|")[1].strip() for line in lines if ".wav" in line] == [
        f"{number}.wav" for number in range(11, 1, -1)
    ]


def test_wrong_languages_and_words_in_recordings_without_speech_are_listed() -> None:
    text = tables(
        [
            report(
                "base", scored("a.wav", "ja", "ja", heard_as="nl"), scored("n.wav", "", "Thank\nyou. " + "x" * 80)
            ),
            report("small", scored("a.wav", "ja", "ja"), scored("n.wav", "", "")),
        ]
    )
    found = rows(text)
    assert found["invented words"] == ["3 in 1 of 1", "0 in 0 of 1"]
    assert found["a.wav"] == ["en", "nl", "en"]
    assert found["n.wav"] == [f"Thank you. {'x' * 49} …", "-"]


def test_columns_are_aligned_for_characters_of_any_width() -> None:
    lines = tables([report("base", scored("汉语.wav", "", "谢谢 観る"), scored("n.wav", "", "you"))]).splitlines()
    for block in _blocks(lines):
        assert len({_columns(line) for line in block}) == 1


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            yield block
            block = []


def _columns(line: str) -> int:
    return sum(2 if "\u3000" <= each <= "\u9fff" else 1 for each in line)


def test_nothing_in_a_name_or_a_transcript_reaches_the_terminal_as_a_command() -> None:
    text = tables([report("ba\x1b[2Jse", scored("a\x07|b.wav", "", "thank\x1b]0;x\x07 you |"))])
    assert all(line.isprintable() for line in text.splitlines())
    assert "a�\\|b.wav" in text
    assert "thank�]0;x� you \\|" in text
