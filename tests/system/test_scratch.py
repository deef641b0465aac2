import os
import shutil
import stat
from pathlib import Path

import pytest

from server.system.scratch import MEMORY_BYTES, ScratchFolder


@pytest.fixture
def tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_nothing_is_made_before_it_is_needed(tmpdir: Path) -> None:
    ScratchFolder().close()
    assert list(tmpdir.iterdir()) == []


def test_files_have_no_names_in_a_folder_that_others_may_not_enter(tmpdir: Path) -> None:
    scratch = ScratchFolder()
    with scratch.file() as file, scratch.small_file() as small:
        small.write(bytes(MEMORY_BYTES + 1))
        (folder,) = tmpdir.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert list(folder.iterdir()) == []
        assert os.fstat(file.fileno()).st_nlink == os.fstat(small.fileno()).st_nlink == 0
    scratch.close()
    assert list(tmpdir.iterdir()) == []


def test_a_small_file_stays_in_memory(tmpdir: Path) -> None:
    scratch = ScratchFolder()
    with scratch.small_file() as file:
        file.write(bytes(1000))
        scratch.close()  # with the folder: the disk is not needed
        file.seek(0)
        assert file.read() == bytes(1000)


@pytest.mark.parametrize("whole", [False, True], ids=["the folder", "TMPDIR"])
def test_a_folder_that_was_removed_is_made_again(tmpdir: Path, whole: bool) -> None:
    scratch = ScratchFolder()
    with scratch.file() as before:
        shutil.rmtree(tmpdir if whole else next(tmpdir.iterdir()))
        with scratch.file() as after:
            assert before.write(b"1") == after.write(b"2") == 1
    (folder,) = tmpdir.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    scratch.close()


@pytest.mark.parametrize("what", ["a link", "a folder for all", "a file"])
def test_a_folder_replaced_by_another_user_is_not_used(tmpdir: Path, what: str) -> None:
    theirs = tmpdir.parent / "theirs"
    theirs.mkdir()
    scratch = ScratchFolder()
    scratch.file().close()
    (folder,) = tmpdir.iterdir()
    folder.rmdir()
    match what:
        case "a link":
            folder.symlink_to(theirs)
        case "a folder for all":
            folder.mkdir()
            folder.chmod(0o777)
        case _:
            folder.touch()
    with scratch.small_file() as small:
        small.write(bytes(MEMORY_BYTES + 1))
        (own,) = set(tmpdir.iterdir()) - {folder}
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
    scratch.close()
    assert list(tmpdir.iterdir()) == [folder]


def test_open_files_outlive_the_folder(tmpdir: Path) -> None:
    scratch = ScratchFolder()
    with scratch.file() as file:
        scratch.close()
        assert file.write(b"1") == 1


def test_an_unclosed_folder_is_removed_with_its_owner(tmpdir: Path) -> None:
    scratch = ScratchFolder()
    scratch.file().close()
    del scratch
    assert list(tmpdir.iterdir()) == []
