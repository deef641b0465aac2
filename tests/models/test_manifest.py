import json
from pathlib import Path

import pytest

from server.models import manifest
from server.models.manifest import FileInfo, Manifest

SUM = "0" * 64
FACTS = {"size": 3, "sha256": SUM}


def content_with(**changes: object) -> bytes:
    return json.dumps({"repository": None, "revision": None, "files": {"model.bin": FACTS}, **changes}).encode()


def test_a_manifest_is_read_back_as_written(tmp_path: Path) -> None:
    made = Manifest("owner/name", "1" * 40, {"model.bin": FileInfo(3, SUM), "config.json": FileInfo(2)})
    made.write(tmp_path)
    assert manifest.read(tmp_path) == made
    assert [path.name for path in tmp_path.iterdir()] == [manifest.NAME]
    assert made.size == 5


def test_a_folder_without_a_manifest_has_an_empty_one(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) == Manifest()
    (tmp_path / manifest.NAME).write_text("{")
    assert manifest.read(tmp_path) == Manifest()


def test_misfits_are_missing_or_have_another_size(tmp_path: Path) -> None:
    (tmp_path / "same").write_bytes(b"abc")
    (tmp_path / "other").write_bytes(b"ab")
    made = Manifest(files={name: FileInfo(3) for name in ("same", "other", "lacking")})
    assert made.misfits(tmp_path) == ["other", "lacking"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        content_with(files=[]),
        content_with(files={"model.bin": 3}),
        content_with(files={"model.bin": {"size": 3}, "a": {"sha256": SUM}}),
        content_with(files={"model.bin": FACTS | {"mode": 0o777}}),
        content_with(repository=3),
        content_with(revision=["1"]),
    ],
)
def test_invalid_content_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a manifest|has no size|must be text"):
        manifest.parse(content)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../model.bin",
        "/model.bin",
        "a/b",
        "a\\b",
        ".hidden",
        "-rf",
        "a b",
        "a\n",
        "a\0b",
        "é",
        "x" * 101,
    ],
)
def test_a_name_that_is_no_plain_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a file of a model"):
        manifest.parse(content_with(files={name: FACTS}))


@pytest.mark.parametrize(
    "facts",
    [
        {"size": 0, "sha256": SUM},
        {"size": -1, "sha256": SUM},
        {"size": 3.0, "sha256": SUM},
        {"size": True, "sha256": SUM},
        {"size": "3", "sha256": SUM},
        {"size": 3, "sha256": SUM.upper() + "x"},
        {"size": 3, "sha256": 0},
    ],
)
def test_invalid_facts_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no size and sha256"):
        manifest.parse(content_with(files={"model.bin": facts}))


@pytest.mark.parametrize("name", ["model.bin", "vocabulary.txt", "a_b-c+d.1", "Systran--faster-whisper-tiny.en"])
def test_names_of_models_are_plain(name: str) -> None:
    assert manifest.is_plain(name)
