"""Pulls into folders, links and files that are there already."""

import shutil
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from server.errors import ModelLocked, ModelUnavailable
from server.models.folder_lock import SPARE_BYTES
from tests.models.hub.conftest import FILES, HALF, contents, pull
from tests.support.hub_standin import Hub


def test_files_already_downloaded_need_no_disk_space(
    standin: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.cuts["model.bin"] = [HALF] + [0] * 20
    with pytest.raises(ModelUnavailable):
        pull(standin, folder)
    standin.cuts.clear()
    usage = namedtuple("usage", "total used free")
    left = sum(map(len, FILES.values())) - HALF
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, SPARE_BYTES + left))
    assert contents(pull(standin, folder)) == FILES


def test_a_folder_that_can_t_be_made_is_named(standin: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match=r"file \(SOTTO_MODELS_DIR\) can't be written"):
        pull(standin, tmp_path / "file" / "model")


def test_a_truncated_pull_is_replaced(standin: Hub, folder: Path) -> None:
    pull(standin, folder)
    (folder / "model.bin").write_bytes(b"short")
    assert contents(pull(standin, folder)) == FILES


def test_a_hand_placed_model_is_used_but_never_replaced(standin: Hub, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"mine")
    with pytest.raises(ModelUnavailable, match="not pulled by Sotto: complete it, or remove it"):
        pull(standin, folder)
    assert contents(folder) == {"model.bin": b"mine"}
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).touch()
    with pytest.raises(ModelUnavailable, match="complete it"):
        pull(standin, folder)
    standin.requests.clear()
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (folder / name).write_text("{}")
    assert pull(standin, folder) == folder
    assert standin.requests == []


def test_a_dangling_link_is_replaced(standin: Hub, folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "gone")
    assert contents(pull(standin, folder)) == FILES
    assert not folder.is_symlink()


def test_a_link_to_a_truncated_pull_is_replaced_but_not_its_target(
    standin: Hub, folder: Path, tmp_path: Path
) -> None:
    elsewhere = pull(standin, tmp_path / "elsewhere")
    (elsewhere / "model.bin").write_bytes(b"short")
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    assert contents(pull(standin, folder)) == FILES
    assert not folder.is_symlink()
    assert (elsewhere / "model.bin").read_bytes() == b"short"


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_with_the_folder_s_name_is_refused_before_the_download(
    standin: Hub, folder: Path, tmp_path: Path, linked: bool
) -> None:
    folder.parent.mkdir()
    file = tmp_path / "file" if linked else folder
    file.write_text("mine")
    if linked:
        folder.symlink_to(file)
    with pytest.raises(ModelLocked, match="is not a folder: remove it"):
        pull(standin, folder)
    assert file.read_text() == "mine"
    assert standin.requests_for("") == []


def test_two_at_once_pull_once(standin: Hub, folder: Path) -> None:
    threads = [threading.Thread(target=pull, args=(standin, folder)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents(folder) == FILES
    assert len(standin.requests_for("model.bin")) == 1
