"""The catalog's file: what an entry may say."""

from pathlib import Path

import pytest

from server.errors import ModelUnavailable
from server.models import catalog_file
from server.models.catalog_file import REQUIRED
from server.models.dimensions import Dimensions

DIMENSIONS = "{ width = 384, encoder_layers = 4, decoder_layers = 4, mels = 80, vocabulary = 51865 }"
PIN = f'{{ size = 1, sha256 = "{"0" * 64}" }}'
PINNED = f'{{ "config.json" = {PIN}, "model.bin" = {PIN}, "tokenizer.json" = {PIN}, "vocabulary.txt" = {PIN} }}'
ENTRY = """
[models.{name}]
aliases = ["{name}-alias"]
repository = "{owner}/{name}"
files = ["config.json", "model.bin", "tokenizer.json", "vocabulary.*"]
languages = "multilingual"
window_s = 30.0
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "catalog.toml"
    path.write_text(text)
    return path


def test_a_repository_or_a_path_is_all_that_an_entry_needs(tmp_path: Path) -> None:
    text = '[models.a]\nrepository = "me/a"\n[models."b.en"]\npath = "~/b"'
    first, second = catalog_file.read(written(tmp_path, text))
    assert (first.files, first.languages, first.window_s, first.dimensions) == (REQUIRED, "multilingual", 30, None)
    assert first.folder(tmp_path / "models") == tmp_path / "models" / "me--a"
    assert first.download_bytes is None
    assert second.folder(tmp_path / "models") == Path.home() / "b"


def test_the_download_size_follows_from_the_dimensions(tmp_path: Path) -> None:
    text = f'[models.a]\nrepository = "me/a"\ndimensions = {DIMENSIONS}'
    (model,) = catalog_file.read(written(tmp_path, text))
    assert model.dimensions == Dimensions(384, 4, 4, 80, 51865)
    assert model.download_bytes == pytest.approx(78.5e6, rel=0.01)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[models.tiny]", "[models.tiny", "catalog.toml: "),
        ('aliases = ["tiny-alias"]', 'aliases = "tiny-alias"', "aliases must be a list"),
        ('aliases = ["tiny-alias"]', "aliases = [1]", "expected string"),
        ('aliases = ["tiny-alias"]', 'aliases = ["a/b"]', "without a slash"),
        ('repository = "a/tiny"', "", "either a repository or a path"),
        ('repository = "a/tiny"', 'repository = "a/tiny"\npath = "tiny"', "either a repository or a path"),
        ('repository = "a/tiny"', 'repository = "tiny"', "repository must be owner/name"),
        ('repository = "a/tiny"', "path = 1", "path must be a directory"),
        ("window_s", 'pinned = { "model.bin" = { size = 1 } }\nwindow_s', "needs a size in bytes and a sha256"),
        ("window_s", f'pinned = {{ "x" = {PIN} }}\nwindow_s', "x, which is not one of its files"),
        ("window_s", 'pinned = { "model.bin" = { bytes = 1 } }\nwindow_s', "unexpected keyword argument 'bytes'"),
        ("window_s", 'revision = "main"\nwindow_s', "revision must be the commit"),
        ("window_s", 'mirrors = ["me/tiny"]\nwindow_s', "and model.bin pinned"),
        ("window_s", f'mirrors = ["tiny"]\npinned = {{ "model.bin" = {PIN} }}\nwindow_s', "a list of owner/name"),
        ("window_s", f'wheels = ["tiny==1 --hash=sha256:{"0" * 64}"]\nwindow_s', "and every file pinned"),
        ("window_s", f'wheels = ["tiny"]\npinned = {PINNED}\nwindow_s', "a list of 'name==version --hash=sha256:"),
        ("window_s", "bundle = 1\nwindow_s", "bundle must be a file"),
        ("window_s", "dimensions = { width = 384 }\nwindow_s", "missing 4 required positional arguments"),
        ("window_s", "dimensions = 384\nwindow_s", "must be a mapping"),
        ("window_s", f"dimensions = {DIMENSIONS.replace('384', '0')}\nwindow_s", "numbers above 0"),
        ("window_s", 'beside = "/"\nwindow_s', "multiple values for argument 'beside'"),
        ('repository = "a/tiny"', 'repositry = "a/tiny"', "repositry"),
        ('"tokenizer.json", ', "", "files must also include tokenizer.json"),
        ('"multilingual"', '"english"', "languages must be"),
        ("30.0", "31", "window_s must be above 0 and at most 30"),
        ("30.0", '"30"', "not supported between"),
    ],
)
def test_an_invalid_entry_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = ENTRY.format(name="tiny", owner="a")
    assert old in text
    with pytest.raises(ModelUnavailable, match=complaint):
        catalog_file.read(written(tmp_path, text.replace(old, new)))


def test_one_name_for_two_models_is_refused(tmp_path: Path) -> None:
    text = ENTRY.format(name="tiny", owner="a") + ENTRY.format(name="base", owner="b").replace("base-alias", "TINY")
    with pytest.raises(ModelUnavailable, match="'TINY' means both 'tiny' and 'base'"):
        catalog_file.read(written(tmp_path, text))
