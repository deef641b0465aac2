"""`sotto evaluate` on recordings of these tests: figures, several models, a server, and errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.cli.main import run
from server.commands.evaluate import EvaluationJob
from server.commands.parallel import ParallelRun, transcribe_all
from tests.support.bad_inputs import DATA
from tests.support.serving import serving

pytestmark = pytest.mark.usefixtures("cpu_offline", "logging_as_before")

ENGLISH_TEXT, SPANISH_TEXT = "The party ends at two o'clock.", "El tren empieza a las seis."
ENGLISH = {"file": str(DATA / "en_00.wav"), "text": ENGLISH_TEXT, "language": "en", "kind": "party"}
SPANISH = {"file": str(DATA / "es_00.wav"), "text": SPANISH_TEXT, "language": "es", "kind": "train"}
SILENCE = {"file": str(DATA / "silence_10s.wav"), "text": "", "kind": "silence"}


def manifest(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return path


def result_of(folder: Path, *arguments: str | Path, status: int = 0) -> list[dict[str, Any]]:
    """What is written of each model."""
    target = folder / "result.json"
    assert run(["evaluate", *map(str, arguments), "--json", str(target)]) == status
    models: list[dict[str, Any]] = json.loads(target.read_bytes())["models"]
    return models


def row(page: str, name: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


# Figures


def test_the_demo_model_makes_the_errors_that_are_in_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = SPANISH | {"text": "El tren sale a las seis de"}
    (demo,) = result_of(tmp_path, manifest(tmp_path, ENGLISH, wrong, SILENCE))
    page = capsys.readouterr().out
    assert row(page, "word error rate") == ["15.4 % (2 of 13)"]
    assert row(page, "substituted, deleted, inserted") == ["1, 1, 0"]
    assert row(page, "language es") == ["28.6 % (2 of 7)"]
    assert row(page, "kind party") == ["0.0 % (0 of 6)"]
    assert row(page, "invented words") == ["0 in 0 of 1"]
    assert row(page, "language detected") == ["2 of 2"]
    assert (demo["model"], demo["errors"], demo["words"]) == ("demo", 2, 13)
    assert demo["audio_s"] == pytest.approx(2.44 + 2.1 + 10, abs=1)
    assert demo["wall_s"] > 0
    english, spanish, silence = demo["recordings"]
    assert (english["hypothesis"], english["hypothesis_language"], english["errors"]) == (ENGLISH_TEXT, "en", 0)
    assert (spanish["hypothesis"], spanish["substitutions"], spanish["deletions"]) == (SPANISH_TEXT, 1, 1)
    assert spanish["references"] == ["El tren sale a las seis de"]
    assert (silence["hypothesis"], silence["invented"]) == ("", [])


def test_words_in_a_recording_without_speech_are_invented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(manifest(tmp_path, ENGLISH | {"text": ""}))]) == 0
    page = capsys.readouterr().out
    assert row(page, "invented words") == ["7 in 1 of 1"]
    assert ENGLISH_TEXT in page


def test_word_times_are_compared_with_those_of_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (DATA / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    (entry,) = (each for each in map(json.loads, lines) if each["file"] == "en_00.wav")
    words = [word for segment in entry["segments"] for word in segment["words"]]
    path = manifest(tmp_path, ENGLISH | {"words": words})
    (demo,) = result_of(tmp_path, path, "--words")
    assert demo["word_times"]["start"]["words"] == 6
    assert demo["word_times"]["start"]["median_s"] < 0.3
    assert [each["word"].strip() for each in demo["recordings"][0]["timed_words"]] == ENGLISH_TEXT.split()
    assert row(capsys.readouterr().out, "starts of words: within 150 ms")
    (demo,) = result_of(tmp_path, path)
    assert demo["word_times"] == {}


def test_languages_are_passed_as_requested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(tmp_path, ENGLISH | {"language": "es"}, SPANISH)
    languages = []
    for language in ("auto", "manifest", "English"):
        (demo,) = result_of(tmp_path, path, "--language", language)
        languages.append([each["hypothesis_language"] for each in demo["recordings"]])
        assert ("language detected" in capsys.readouterr().out) == (language == "auto")
    assert languages == [["en", "es"], ["es", "es"], ["en", "en"]]


def test_models_are_side_by_side_and_a_missing_one_fails_alone(
    scripted_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path, ENGLISH, SPANISH)
    names = ["demo", "no-such-model", str(scripted_model)]
    arguments = [part for name in names for part in ("--model", name)]
    models = result_of(tmp_path, path, *arguments, status=1)
    assert [each["model"] for each in models] == [names[0], names[2]]
    assert [each["errors"] for each in models] == [0, 12]
    out, err = capsys.readouterr()
    assert row(out, "word error rate") == ["0.0 % (0 of 12)", "100.0 % (12 of 12)"]
    assert "sotto: no-such-model: " in err


def test_a_folder_of_recordings_with_their_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("en_00", "es_00", "en_02"):
        (tmp_path / f"{name}.wav").symlink_to(DATA / f"{name}.wav")
    (tmp_path / "en_00.txt").write_text(f"{ENGLISH_TEXT}\n")
    (tmp_path / "es_00.txt").write_text(SPANISH_TEXT)
    assert run(["evaluate", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert row(out, "word error rate") == ["0.0 % (0 of 12)"]
    assert "sotto: 1 of 3 recordings have no .txt file and are skipped" in err


def test_a_limit_and_a_prompt(tmp_path: Path) -> None:
    path = manifest(tmp_path, ENGLISH, SPANISH)
    (demo,) = result_of(tmp_path, path, "--limit", "1", "--prompt", "A party.")
    assert [each["file"] for each in demo["recordings"]] == [ENGLISH["file"]]


def test_a_server_gives_the_same_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOTTO_API_KEY", "secret")
    path = manifest(tmp_path, ENGLISH, SPANISH, SILENCE)
    (here,) = result_of(tmp_path, path, "--words")
    with serving(api_keys="secret", offline=1) as server:
        (there,) = result_of(tmp_path, path, "--words", "--server", server.base_url)
        other = ["--model", "another", "--server", server.base_url]
        (failed,) = result_of(tmp_path, path, *other, status=1)
    assert there["model"] == "demo"
    for mine, theirs in zip(here["recordings"], there["recordings"], strict=True):
        assert mine["hypothesis"] == theirs["hypothesis"]
        assert mine["hypothesis_language"] == theirs["hypothesis_language"] or mine["is_wordless"]
        assert len(mine["timed_words"]) == len(theirs["timed_words"])
    assert (here["errors"], there["errors"]) == (0, 0)
    assert [each["file"] for each in failed["failed"]] == [each["file"] for each in (ENGLISH, SPANISH, SILENCE)]
    assert "'another' does not exist" in capsys.readouterr().err


# Errors


def test_missing_and_undecodable_recordings_are_reported_and_the_others_count(
    scripted_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [{"file": "missing.wav", "text": "x"}, {"file": str(DATA / "README.md"), "text": "x"}]
    path = manifest(tmp_path, bad[0], ENGLISH, bad[1])
    models = result_of(tmp_path, path, "--model", "demo", "--model", scripted_model, status=1)
    assert [[each["file"] for each in model["failed"]] for model in models] == [[each["file"] for each in bad]] * 2
    out, err = capsys.readouterr()
    assert row(out, "recordings") == ["1 of 3", "1 of 3"]
    complaints = [line for line in err.splitlines() if "demo model" not in line]
    assert complaints[0] == "sotto: missing.wav: No such file or directory"  # once, though both models lack it
    assert complaints[1].startswith(f"sotto: {DATA / 'README.md'}: The audio file could not be decoded")
    assert len(complaints) == 2


def test_many_failures_for_the_same_reason_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [{"file": f"{number}.wav", "text": "x"} for number in range(40)]
    assert run(["evaluate", str(manifest(tmp_path, *entries))]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[1:] == ["sotto: 0.wav and 39 others: No such file or directory"]


def test_after_ctrl_c_the_results_so_far_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[EvaluationJob] = []

    def interrupted(work: ParallelRun[EvaluationJob], *arguments: Any, model: str, **options: Any) -> str:
        if model == "demo":
            done.extend(work.jobs)
            return transcribe_all(work, *arguments, model=model, **options)
        work.jobs[0].scored = done[0].scored  # the second one is under way
        raise KeyboardInterrupt

    monkeypatch.setattr("server.commands.evaluate.transcribe_all", interrupted)
    path = manifest(tmp_path, ENGLISH, SPANISH)
    models = result_of(tmp_path, path, "--model", "demo", "--model", "other", "--model", "third", status=130)
    assert [(each["model"], each["words"]) for each in models] == [("demo", 12), ("other", 6)]
    assert row(capsys.readouterr().out, "recordings") == ["2", "1"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["missing.jsonl"], "missing.jsonl: no such file or directory"),
        (["wrong.jsonl"], "wrong.jsonl, line 2: no recording is named"),
        (["."], "none of its recordings has a .txt file"),
        (["empty"], "it contains no recordings"),
        (["right.jsonl", "--limit", "0"], "'--limit'"),
        (["right.jsonl", "--language", "klingon"], "'klingon'"),
        (["right.jsonl", "--server", "box:8000"], "the address of a server"),
        (["right.jsonl", "--json", "empty"], "empty is a directory"),
        (["right.jsonl", "--json", "./right.jsonl"], "would overwrite an input"),
        (["right.jsonl", "--json", "a.wav"], "would overwrite an input"),
    ],
)
def test_invalid_arguments_and_manifests_are_reported_before_any_work(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.wav").touch()
    (tmp_path / "right.jsonl").write_text('{"file": "a.wav", "text": "x"}\n')
    (tmp_path / "wrong.jsonl").write_text('{"file": "a.wav", "text": "x"}\n{"text": "x"}\n')
    assert run(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert complaint in line
    assert (tmp_path / "a.wav").stat().st_size == 0
