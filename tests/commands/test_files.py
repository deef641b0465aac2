"""Which recordings are meant, where results go, and that these are whole or not there."""

from pathlib import Path

import pytest

from server.commands.files import BESIDE, InputFile, OutputPath, find, write

TALK = InputFile(Path("in/a/talk.mp3"), Path("a"))


@pytest.mark.parametrize(
    ("where", "target"),
    [
        (BESIDE, "in/a/talk.srt"),
        ("out", "out/a/talk.srt"),
        ("v1.2", "v1.2/a/talk.srt"),
        ("{stem}.srt", "talk.srt"),
        ("out/{name}.{ext}", "out/talk.mp3.srt"),
        ("said.srt", "said.srt"),
    ],
)
def test_an_output_pattern_gives_the_target_path(where: str, target: str) -> None:
    assert OutputPath(where).target(TALK, "srt") == Path(target)


def test_standard_input_has_a_name_for_its_result() -> None:
    assert OutputPath(BESIDE).target(InputFile(Path("-")), "text") == Path("stdin.txt")


def test_a_directory_is_one_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "{stem}").mkdir()
    assert OutputPath(str(tmp_path / "{stem}")).target(TALK, "vtt") == tmp_path / "{stem}" / "a" / "talk.vtt"


def test_an_unreadable_directory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talk.mp3").touch()
    closed = PermissionError(13, "Permission denied", str(tmp_path))

    def scandir(_: object) -> None:
        raise closed

    monkeypatch.setattr("os.scandir", scandir)
    assert list(find([tmp_path])) == [(tmp_path, closed)]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "new" / "talk.srt"
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(target, b"half")
    assert list(target.parent.iterdir()) == []
    write(target, b"whole")
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"whole"]
