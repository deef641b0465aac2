import os
from pathlib import Path

import pytest

from server.models.search_path import hub_cache, model_folders, repository_of, snapshot
from tests.support.model_folders import WHOLE, cached, filled

BASE = "Systran/faster-whisper-base"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "~/hf"}, "~/hf/hub"),
        ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/hub"}, "/hub"),
    ],
)
def test_the_cache_is_where_the_hub_s_own_library_puts_it(environment: dict[str, str], folder: str) -> None:
    assert hub_cache(environment) == Path(folder).expanduser()


def test_a_snapshot_is_that_of_the_revision_else_of_the_branch_else_the_newest(tmp_path: Path) -> None:
    assert snapshot(tmp_path, BASE) is None
    first, second, third = (cached(tmp_path, BASE, sign * 40) for sign in "abc")
    for age_s, folder in enumerate((third, first, second)):
        os.utime(folder, (1e9 - age_s, 1e9 - age_s))
    assert snapshot(tmp_path, BASE) == third
    refs = filled(tmp_path / "models--Systran--faster-whisper-base" / "refs")
    (refs / "main").write_text("b" * 40)
    assert snapshot(tmp_path, BASE) == second
    assert snapshot(tmp_path, BASE, "a" * 40) == first
    assert snapshot(tmp_path, BASE, "d" * 40) == second
    (refs / "main").write_text("d" * 40)  # its download was interrupted
    assert snapshot(tmp_path, BASE) == third


def test_both_layouts_are_listed(tmp_path: Path) -> None:
    plain = filled(tmp_path / "plain", *WHOLE)
    found = cached(tmp_path, BASE)
    filled(tmp_path / "models--me--empty" / "blobs")
    filled(tmp_path / ".locks")
    (tmp_path / "version.txt").touch()
    assert list(model_folders(tmp_path)) == [found, plain]
    assert list(model_folders(tmp_path / "none")) == []


def test_a_snapshot_knows_its_repository(tmp_path: Path) -> None:
    assert repository_of(cached(tmp_path, BASE)) == BASE
    assert repository_of(cached(tmp_path, "me/a--b")) == "me/a--b"
    assert repository_of(filled(tmp_path / "snapshots" / "plain")) is None
    assert repository_of(filled(tmp_path / "models--gpt2" / "snapshots" / "one")) is None
