import hashlib
import shutil
from pathlib import Path

import pytest

from server import catalog
from server.errors import ModelUnavailable

ENTRY = """
[models.{name}]
aliases = ["{name}-alias"]
repository = "{owner}/{name}"
files = ["config.json", "model.bin", "tokenizer.json", "vocabulary.*"]
languages = "multilingual"
window_s = 30.0
"""
WHOLE = ("config.json", "model.bin", "tokenizer.json", "vocabulary.json")


def written(folder: Path, text: str) -> Path:
    path = folder / "catalog.toml"
    path.write_text(text)
    return path


def filled(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_own_catalogue_is_valid_and_every_name_finds_its_model() -> None:
    own = catalog.load()
    assert {model.name for model in own.models} >= {"demo", "tiny", "large-v3", "large-v3-turbo"}
    spellings = [name.casefold() for model in own.models for name in model.names]
    assert len(spellings) == len(set(spellings))
    for model in own.models:
        assert all(own.find(name.upper()) is model for name in model.names)
        assert not any(name == "whisper-1" or name.startswith("gpt-") for name in model.names)


def test_sums_of_the_bundled_model_match_its_files() -> None:
    own = catalog.load()
    demo = own.find("demo")
    assert demo is not None
    for name in demo.files:
        content = (own.root / "demo" / name).read_bytes()
        assert len(content) == demo.size[name]
        assert hashlib.sha256(content).hexdigest() == demo.sha256[name]


def test_data_is_looked_for_in_the_package_then_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, checkout = tmp_path / "server" / "_data", tmp_path / "models"
    assert [folder.name for folder in catalog.DATA_FOLDERS] == ["_data", "models"]
    monkeypatch.setattr(catalog, "DATA_FOLDERS", (package, checkout))
    filled(checkout, "catalog.toml")
    assert catalog.data_path("catalog.toml") == checkout / "catalog.toml"
    filled(package, "catalog.toml")
    assert catalog.data_path("catalog.toml") == package / "catalog.toml"
    with pytest.raises(ModelUnavailable, match=r"demo is neither in .*_data nor .*models"):
        catalog.data_path("demo")


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
        ('repository = "a/tiny"', 'path = "../tiny"', "path must be one folder's name"),
        ('repository = "a/tiny"', 'path = "tiny"', "sha256 and size go with every file"),
        ('repository = "a/tiny"', 'repositry = "a/tiny"', "repositry"),
        ('"tokenizer.json", ', "", "files must name tokenizer.json too"),
        ("files =", "# files =", "files"),
        ('"multilingual"', '"english"', "languages must be"),
        ("30.0", "31", "window_s must be above 0 and at most 30"),
        ("30.0", '"30"', "not supported between"),
    ],
)
def test_mistake_in_an_entry_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = ENTRY.format(name="tiny", owner="a")
    assert old in text
    with pytest.raises(ModelUnavailable, match=complaint):
        catalog.load(written(tmp_path, text.replace(old, new)))


def test_one_name_for_two_models_is_refused(tmp_path: Path) -> None:
    text = ENTRY.format(name="tiny", owner="a") + ENTRY.format(name="base", owner="b").replace("base-alias", "TINY")
    with pytest.raises(ModelUnavailable, match="'TINY' means both 'tiny' and 'base'"):
        catalog.load(written(tmp_path, text))


def test_bundled_model_is_found_where_it_lies() -> None:
    own = catalog.load()
    found = catalog.resolve("demo", Path("/nonexistent"))
    assert (found.name, found.folder, found.repository, found.window_s) == ("demo", own.root / "demo", None, 10.0)
    assert catalog.resolve(str(own.root / "demo"), Path("/nonexistent")) == found


def test_damaged_bundled_model_is_refused(tmp_path: Path) -> None:
    own = catalog.load()
    shutil.copytree(own.root / "demo", tmp_path / "demo")
    shutil.copy(own.root / "catalog.toml", tmp_path)
    copy = catalog.load(tmp_path / "catalog.toml")
    assert catalog.resolve("demo", tmp_path, copy).folder == tmp_path / "demo"
    (tmp_path / "demo" / "model.bin").write_bytes(b"short")
    with pytest.raises(ModelUnavailable, match=r"'demo' is damaged.*model\.bin should be a file of \d+ bytes"):
        catalog.resolve("demo", tmp_path, copy)


@pytest.mark.parametrize("name", ["tiny", "Whisper-Tiny", "systran/faster-whisper-tiny"])
def test_catalogued_model_is_to_be_pulled_until_it_is_whole(tmp_path: Path, name: str) -> None:
    target = tmp_path / "Systran--faster-whisper-tiny"
    found = catalog.resolve(name, tmp_path)
    assert (found.name, found.folder, found.target) == ("tiny", None, target)
    assert found.repository == "Systran/faster-whisper-tiny"
    filled(target, *WHOLE[:-1])
    assert catalog.resolve(name, tmp_path).folder is None
    filled(target, "vocabulary.txt")
    assert catalog.resolve(name, tmp_path).folder == target


def test_catalogue_may_want_more_files(tmp_path: Path) -> None:
    target = filled(tmp_path / "Systran--faster-whisper-large-v3", *WHOLE)
    assert catalog.resolve("large-v3", tmp_path).folder is None
    filled(target, "preprocessor_config.json")
    assert catalog.resolve("large-v3", tmp_path).folder == target


def test_other_repository_is_to_be_pulled(tmp_path: Path) -> None:
    found = catalog.resolve("someone/whisper-ct2", tmp_path)
    assert (found.name, found.folder, found.model) == ("someone/whisper-ct2", None, None)
    assert found.target == tmp_path / "someone--whisper-ct2"
    assert (found.files, found.window_s) == (catalog.REQUIRED, 30.0)


def test_directory_wins_over_repository_and_catalogue_over_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "owner" / "name", *WHOLE)
    filled(tmp_path / "demo")
    found = catalog.resolve("owner/name", tmp_path)
    assert (found.name, found.folder, found.repository) == ("name", Path("owner/name"), None)
    assert catalog.resolve("demo", tmp_path).model is not None


@pytest.mark.parametrize("lacking", WHOLE)
def test_incomplete_directory_is_refused(tmp_path: Path, lacking: str) -> None:
    folder = filled(tmp_path / "model", *(name for name in WHOLE if name != lacking))
    with pytest.raises(ModelUnavailable, match=f"it lacks {lacking}"):
        catalog.resolve(str(folder), tmp_path)
    (folder / lacking).touch()
    with pytest.raises(ModelUnavailable, match=f"it lacks {lacking}"):
        catalog.resolve(str(folder), tmp_path)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors"])
def test_transformers_directory_gets_the_command_that_converts_it(tmp_path: Path, weights: str) -> None:
    folder = filled(tmp_path / "my model", "config.json", "tokenizer.json", weights)
    with pytest.raises(ModelUnavailable) as caught:
        catalog.resolve(str(folder), tmp_path)
    assert str(caught.value).endswith(
        f"ct2-transformers-converter --model '{folder}' --output_dir '{folder}-ct2' "
        "--copy_files tokenizer.json preprocessor_config.json --quantization float16"
    )


def test_lfs_pointer_is_no_model(tmp_path: Path) -> None:
    folder = filled(tmp_path / "cloned", *WHOLE)
    (folder / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelUnavailable, match="git lfs pull"):
        catalog.resolve(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("large-v4", "Unknown model 'large-v4'.*Did you mean large-v3, "),
        ("Tubro", r"Did you mean turbo"),
        ("qqqqqq", "The catalogue has demo, tiny, .*large-v3"),
        ("", "Unknown model ''"),
        ("a/b/c", "no repository id"),
        ("../etc/passwd", "there is no directory"),
        ("/no/such/folder", "there is no directory /no/such/folder"),
        ("~/no-such-folder", "there is no directory"),
        ("..", "is no usable model"),
    ],
)
def test_anything_else_is_refused_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(filled(tmp_path / "in" / "here"))
    with pytest.raises(ModelUnavailable, match=message):
        catalog.resolve(name, tmp_path)


def test_file_instead_of_a_directory_is_told(tmp_path: Path) -> None:
    folder = filled(tmp_path / "model", *WHOLE)
    with pytest.raises(ModelUnavailable, match="is a file; a model is the directory around it"):
        catalog.resolve(str(folder / "model.bin"), tmp_path)


def test_only_the_model_that_was_trained_for_it_may_see_short_windows() -> None:
    assert [model.name for model in catalog.load().models if model.dynamic_context] == ["demo"]
