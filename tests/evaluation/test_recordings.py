"""One entry of a manifest: the names of keys, what each may hold, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from server.evaluation.recordings import LabeledRecording, TimedWord, labeled

FOLDER = Path("/data")


def of(**entry: Any) -> LabeledRecording:
    return labeled({"file": "a.wav", "text": "Ja"} | entry, FOLDER)


@pytest.mark.parametrize("key", ["file", "file_name", "audio_filepath", "audio", "path"])
def test_the_recording_goes_by_several_names(key: str) -> None:
    found = labeled({key: "clips/a b.wav", "text": "x"}, FOLDER)
    assert (found.name, found.path) == ("clips/a b.wav", FOLDER / "clips" / "a b.wav")


@pytest.mark.parametrize("key", ["text", "sentence", "transcript", "transcription"])
def test_the_text_goes_by_several_names(key: str) -> None:
    assert labeled({"file": "a", key: " Ja\n"}, FOLDER).references == ("Ja",)


@pytest.mark.parametrize("key", ["language", "locale", "lang"])
@pytest.mark.parametrize(("tag", "code"), [("pt-BR", "pt"), ("German", "de"), ("", ""), (None, "")])
def test_the_language_goes_by_several_names_and_may_be_left_out(key: str, tag: str | None, code: str) -> None:
    assert of(**{key: tag}).language == code


def test_of_several_names_the_first_counts_and_other_keys_are_ignored() -> None:
    found = of(path="audio/of/the/source.wav", sentence="Nein", duration=2.5, speakers=[[{}]], offset="x")
    assert found == LabeledRecording("a.wav", FOLDER / "a.wav", references=("Ja",))


def test_an_absolute_path_is_taken_as_it_is() -> None:
    assert of(file="/elsewhere/a.wav").path == Path("/elsewhere/a.wav")


def test_a_missing_text_differs_from_an_empty_one() -> None:
    unstated, silent = of(text=None), of(text="  ")
    assert (unstated.references, unstated.is_wordless) == ((), False)
    assert (silent.references, silent.is_wordless) == ((), True)


def test_spellings_digits_and_words() -> None:
    found = of(also=["Jawohl", ""], digits="1 0 3", kind="read", words=[["Ja", 0, 0.4]])
    assert (found.references, found.digits, found.kind) == (("Ja", "Jawohl"), "103", "read")
    assert found.words == (TimedWord("Ja", 0.0, 0.4),)
    assert of(also="Jawohl").references == ("Ja", "Jawohl")
    assert of(words=[{"word": "Ja", "start": 0.5, "end": 0.5, "probability": 1}]).words == (
        TimedWord("Ja", 0.5, 0.5),
    )


def test_digits_are_a_reference_too() -> None:
    found = of(text=None, digits="103")
    assert (found.references, found.is_wordless) == (("103",), False)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"file": ""}, "no recording is named; expected one of file, file_name,"),
        ({"file": {"path": "a.wav"}}, "file is not text: {'path': 'a.wav'}"),
        ({"text": ["a"]}, "text is not text"),
        ({"text": "\ud800"}, "text is not valid Unicode"),
        ({"language": "klingon"}, "language is not a language of Whisper: 'klingon'"),
        ({"language": 7}, "language is not text: 7"),
        ({"digits": "1o3"}, "digits may only contain digits: '1o3'"),
        ({"digits": "١٢"}, "digits may only contain digits"),
        ({"also": 7}, "also is not a list: 7"),
        ({"also": [7]}, "also is not text: 7"),
        ({"words": 12}, "words is not a list: 12"),
        ({"words": ["Ja"]}, "words has an item that is not [word, start, end]: 'Ja'"),
        ({"words": [["Ja", 0.5]]}, "words has an item that is not"),
        ({"words": [["Ja", float("nan"), 1.0]]}, "words has invalid times in seconds: nan, 1.0"),
        ({"words": [["Ja", 0.0, float("nan")]]}, "words has invalid times"),
        ({"words": [["Ja", 0.0, float("inf")]]}, "words has invalid times"),
        ({"words": [["Ja", -1.0, 1.0]]}, "words has invalid times"),
        ({"words": [["Ja", 2.0, 1.0]]}, "words has invalid times"),
        ({"words": [["Ja", "0", "1"]]}, "words has invalid times"),
        ({"words": [["Ja", 0, 10**400]]}, "words has invalid times"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_key(entry: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - its message is looked at
        of(**entry)
    assert str(refused.value).startswith(reason)
