"""Manifests of every kind, and hostile ones: the error names file and line."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.evaluation.manifest import InvalidManifest, beside, load
from server.evaluation.recordings import LabeledRecording, TimedWord
from tests.conftest import DATA

LINES = (
    '{"audio_filepath": "a.wav", "duration": 3.5, "text": "ja", "offset": 0.0}\n'
    '\n{"audio_filepath": "b.wav", "duration": 1.0, "text": ""}\n'
)
COMMON_VOICE = (
    "client_id\tpath\tsentence\tup_votes\tlocale\n"
    '0a1b\ta.mp3\t"Ja", sagte sie\t2\tde\n'
    "0a1b\tb.mp3\tNein\u2028nein\t2\tde\n"
)
TABLE = 'file,text,also\na.wav,"Ja, ""so""\nist es",so ist\'s|so ist das\nb.wav,nein,\n'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return tmp_path / "manifest"


def written(manifest: Path, content: str | bytes) -> list[LabeledRecording]:
    manifest.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(manifest)


def refusal(manifest: Path, content: str | bytes) -> str:
    with pytest.raises(InvalidManifest) as refused:
        written(manifest, content)
    return str(refused.value).removeprefix(str(manifest))


def test_json_lines_as_nemo_writes_them(manifest: Path) -> None:
    spoken, silent = written(manifest, LINES)
    assert (spoken.path, spoken.references) == (manifest.parent / "a.wav", ("ja",))
    assert silent.is_wordless


def test_a_table_as_common_voice_has_it_with_its_folder_of_clips(manifest: Path) -> None:
    (manifest.parent / "clips").mkdir()
    (manifest.parent / "clips" / "a.mp3").touch()
    here, missing = written(manifest, COMMON_VOICE)
    assert here.references == ('"Ja", sagte sie',)
    assert (here.path, here.name, here.language) == (manifest.parent / "clips" / "a.mp3", "a.mp3", "de")
    assert missing.path == manifest.parent / "b.mp3"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_may_be_separated_otherwise(delimiter: str, manifest: Path) -> None:
    rows = [["Text", " File ", "words", "note"], ["ja", "a.wav", "1", "x"], [], ["nein", "b.wav", "2", ""]]
    first, second = written(manifest, "\n".join(delimiter.join(row) for row in rows))
    assert (first.references, second.references) == (("ja",), ("nein",))
    assert first.words == ()


def test_cells_in_quotes_may_have_commas_and_lines_and_several_spellings(manifest: Path) -> None:
    first, second = written(manifest, TABLE)
    assert first.references == ('Ja, "so"\nist es', "so ist's", "so ist das")
    assert second.references == ("nein",)


@pytest.mark.parametrize("content", [LINES, COMMON_VOICE, TABLE])
def test_windows_line_ends_and_a_byte_order_mark_change_nothing(content: str, manifest: Path) -> None:
    plain = written(manifest, content)
    found = written(manifest, b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())
    assert [_words(each) for each in found] == [_words(each) for each in plain]


def _words(recording: LabeledRecording) -> tuple[str, list[list[str]]]:
    return recording.name, [each.split() for each in recording.references]


def test_text_files_lie_beside_their_recordings(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    recordings = [tmp_path / "a.wav", tmp_path / "deep" / "b.mp3", tmp_path / "c.wav", tmp_path / "d.wav"]
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfJa,\r\nja\r\n")
    (tmp_path / "deep" / "b.txt").write_text("nein")
    (tmp_path / "c.txt").touch()
    first, second, silent = beside(tmp_path, recordings)
    assert (first.path, first.name, first.references) == (recordings[0], "a.wav", ("Ja,\r\nja",))
    assert (second.name, second.references) == ("deep/b.mp3", ("nein",))
    assert silent.is_wordless


def test_a_folder_without_texts_or_with_invalid_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="none of its recordings has a "):
        beside(tmp_path, [tmp_path / "a.wav"])
    (tmp_path / "a.txt").write_bytes(b"ja\n\xff")
    with pytest.raises(InvalidManifest, match=r"a.txt, line 2: it is not UTF-8"):
        beside(tmp_path, [tmp_path / "a.wav"])


def test_the_manifest_of_the_test_recordings_is_valid() -> None:
    found = {each.name: each for each in load(DATA / "manifest.jsonl")}
    assert len(found) == 68
    assert found["de_00.wav"].language == "de"
    assert sorted(name for name, each in found.items() if each.is_wordless) == [
        "noise_10s.flac",
        "noise_45s.ogg",
        "silence_10s.wav",
    ]
    assert all(each.path.is_file() for each in found.values())


def test_a_reference_alignment_is_read(manifest: Path) -> None:
    (only,) = written(manifest, json.dumps({"file": "a.wav", "text": "Ja", "words": [["Ja", 0.1, 0.4]]}))
    assert only.words == (TimedWord("Ja", 0.1, 0.4),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ", line 1: its first line is neither a JSON object nor a header with one of file, file_name,"),
        (b"\x00\x01", ", line 1: its first line is neither"),
        ("name,text\na.wav,ja\n", ", line 1: its first line is neither"),
        (b"file,text\na.wav,ja\nb.wav,gr\xfc\xdfe\n", ", line 3: it is not UTF-8"),
        ("file,text\na.wav,ja\n".encode("utf-16"), ", line 1: it is not UTF-8"),
        ("file,text\n", ": it has no recordings"),
        ('{"file": "a.wav"}\n{"file": "b.wav"', ", line 2: it is not JSON: "),
        ('{"file": "a.wav"}\n["b.wav"]', ", line 2: it is not a JSON object; expected one per line"),
        ("[" * 100_000, ", line 1: it is not JSON: "),
        ('{\n"file": "a.wav"}', ", line 1: it is not JSON: "),
        ('{"file": "a.wav"}\n{"text": "x"}', ", line 2: no recording is named; expected one of"),
        ('{"file": "a.wav"}\n\n{"file": "./a.wav"}', ", line 3: ./a.wav is already in line 1"),
        ('{"file": "a.wav", "words": [["a", NaN, 1]]}', ", line 1: words has invalid times in seconds: nan"),
        ('{"file": "a.wav", "offset": 12.5}', ", line 1: parts of a recording (offset) are not supported"),
        ("file,text\na.wav,ja\nb.wav\n", ", line 3: it has 1 cells, but the header has 2"),
        ("file,text\na.wav,ja,nein\n", ", line 2: it has 3 cells, but the header has 2"),
        ('file,text\na.wav,ja\nb.wav,"nein\n', ", line 3: it is not valid CSV: "),
        ("file,text,TEXT\na.wav,ja,ja\n", ", line 1: column 'text' occurs twice"),
        (
            "file,text,language\na.wav,ja,dutch\nb.wav,ja,double dutch\n",
            ", line 3: language is not a language of Whisper",
        ),
        ('file,text\na.wav,"ja\nja"\n,nein\n', ", line 4: no recording is named"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_line(content: str | bytes, reason: str, manifest: Path) -> None:
    assert refusal(manifest, content).startswith(reason)


PIECES = st.sampled_from(
    [
        *'{}[]",:;|\t\r\n\0\ufeff\u2028',
        "file",
        "text",
        "words",
        "also",
        "a.wav",
        "NaN",
        "null",
        "1e999",
        "\\ud800",
        "é",
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=40), st.lists(PIECES, max_size=25).map(lambda pieces: "".join(pieces).encode()))
)
@example(b"file,text\ra.wav,b\r")
@example(b'file,text\na.wav,"' + b"x" * 200_000 + b'"')
@example(b'{"file": "a.wav", "text": ' + b"[" * 100_000)
@example(b'{"file": "a.wav", "digits": ' + b"1" * 5000 + b"}")
def test_any_manifest_is_read_or_refused(manifest: Path, content: bytes) -> None:
    with suppress(InvalidManifest):
        assert written(manifest, content)


def test_an_unreadable_manifest_raises_the_system_s_error(manifest: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(manifest)


@pytest.mark.parametrize("value", ["a\x00.wav", "x" * 5000])
def test_an_impossible_file_name_fails_when_it_is_opened(value: str, manifest: Path) -> None:
    entry: dict[str, Any] = {"file": value, "text": "ja"}
    (only,) = written(manifest, json.dumps(entry))
    with pytest.raises((OSError, ValueError)):
        only.path.open("rb")
