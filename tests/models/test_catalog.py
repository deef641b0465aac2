import hashlib
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import ModelNotFound, ModelUnavailable
from server.models import catalog, manifest
from server.models.catalog_file import REQUIRED
from server.models.dimensions import Dimensions, read_dimensions
from server.models.manifest import FileInfo, Manifest
from server.settings import Settings
from tests.support.model_folders import WHOLE, cached, filled

KNOWN = catalog.load()


def test_our_catalog_is_valid_and_every_name_finds_its_model() -> None:
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
        content = (catalog.data_path("demo") / name).read_bytes()
        assert demo.pinned[name] == FileInfo(len(content), hashlib.sha256(content).hexdigest())


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


def test_the_bundled_model_is_found_where_it_lies() -> None:
    demo = catalog.data_path("demo")
    found = catalog.resolve("demo", Path("/nonexistent"))
    assert (found.name, found.folder, found.repository, found.window_s) == ("demo", demo, None, 10.0)
    assert catalog.resolve(str(demo), Path("/nonexistent")) == found


def test_damaged_bundled_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(catalog.data_path("demo"), tmp_path / "demo")
    shutil.copy(catalog.data_path("catalog.toml"), tmp_path)
    monkeypatch.setattr(catalog, "DATA_FOLDERS", (tmp_path,))
    assert catalog.resolve("demo", tmp_path).folder == tmp_path / "demo"
    (tmp_path / "demo" / "model.bin").write_bytes(b"short")
    for name in ("demo", str(tmp_path / "demo")):
        with pytest.raises(ModelUnavailable, match=r"'demo' is damaged.*model\.bin should be a file of \d+ bytes"):
            catalog.resolve(name, tmp_path)


@pytest.mark.parametrize("name", ["tiny", "Whisper-Tiny", "systran/faster-whisper-tiny"])
def test_catalogd_model_is_to_be_pulled_until_it_is_whole(tmp_path: Path, name: str) -> None:
    target = tmp_path / "Systran--faster-whisper-tiny"
    found = catalog.resolve(name, tmp_path)
    assert (found.name, found.folder, found.target) == ("tiny", None, target)
    assert found.repository == "Systran/faster-whisper-tiny"
    filled(target, *WHOLE[:-1])
    assert catalog.resolve(name, tmp_path).folder is None
    filled(target, "vocabulary.txt")
    assert catalog.resolve(name, tmp_path).folder == target


def test_the_catalog_may_want_more_files(tmp_path: Path) -> None:
    target = filled(tmp_path / "Systran--faster-whisper-large-v3", *WHOLE)
    assert catalog.resolve("large-v3", tmp_path).folder is None
    filled(target, "preprocessor_config.json")
    assert catalog.resolve("large-v3", tmp_path).folder == target


def test_other_repository_is_to_be_pulled(tmp_path: Path) -> None:
    found = catalog.resolve("someone/whisper-ct2", tmp_path)
    assert (found.name, found.folder, found.model) == ("someone/whisper-ct2", None, None)
    assert found.target == tmp_path / "someone--whisper-ct2"
    assert (found.files, found.window_s) == (REQUIRED, 30.0)


def test_a_directory_wins_over_repository_and_catalog_over_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "owner" / "name", *WHOLE)
    filled(tmp_path / "demo")
    found = catalog.resolve("owner/name", tmp_path)
    assert (found.name, found.folder, found.repository) == ("name", Path("owner/name"), None)
    assert catalog.resolve("demo", tmp_path).model is not None


@pytest.mark.parametrize("lacking", WHOLE)
def test_an_incomplete_directory_is_refused(tmp_path: Path, lacking: str) -> None:
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
        "--copy_files tokenizer.json --quantization float16"
    )


def test_an_lfs_pointer_is_no_model(tmp_path: Path) -> None:
    folder = filled(tmp_path / "cloned", *WHOLE)
    (folder / "model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelUnavailable, match="git lfs pull"):
        catalog.resolve(str(folder), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("large-v4", "Unknown model 'large-v4'.*Did you mean large-v3, "),
        ("Tubro", r"Did you mean turbo"),
        ("qqqqqq", "The catalog has demo, tiny, .*large-v3"),
        ("", "Unknown model ''"),
        ("a/b/c", "or a repository id"),
        ("../etc/passwd", "there is no directory"),
        ("/no/such/folder", "there is no directory /no/such/folder"),
        ("~/no-such-folder", "there is no directory"),
        ("..", "is not a usable model"),
    ],
)
def test_anything_else_is_refused_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(filled(tmp_path / "in" / "here"))
    with pytest.raises(ModelUnavailable, match=message):
        catalog.resolve(name, tmp_path)


def test_a_file_is_no_repository_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "me", "tiny.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"me/tiny\.pt is a checkpoint of openai-whisper"):
        catalog.resolve("me/tiny.pt", tmp_path)


def test_a_file_instead_of_a_directory_is_an_error(tmp_path: Path) -> None:
    folder = filled(tmp_path / "model", *WHOLE)
    with pytest.raises(ModelUnavailable, match="is a file; a model is the directory around it"):
        catalog.resolve(str(folder / "model.bin"), tmp_path)


def test_only_the_model_that_was_trained_for_it_may_see_short_windows() -> None:
    assert [model.name for model in catalog.load().models if model.dynamic_context] == ["demo"]


# Known to everybody who uses faster-whisper: its own table (faster_whisper.utils._MODELS, 1.2.1).
@pytest.mark.parametrize(
    ("name", "repository"),
    [
        *((size, f"Systran/faster-whisper-{size}") for size in ("tiny", "base", "small", "medium", "large-v1")),
        *((f"{size}.en", f"Systran/faster-whisper-{size}.en") for size in ("tiny", "base", "small", "medium")),
        *((size, f"Systran/faster-whisper-{size}") for size in ("large-v2", "large-v3")),
        *((f"distil-{size}", f"Systran/faster-distil-whisper-{size}") for size in ("small.en", "medium.en")),
        *((f"distil-{size}", f"Systran/faster-distil-whisper-{size}") for size in ("large-v2", "large-v3")),
        ("distil-large-v3.5", "distil-whisper/distil-large-v3.5-ct2"),
        ("large", "Systran/faster-whisper-large-v3"),
        ("large-v3-turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
        ("turbo", "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
    ],
)
def test_names_mean_what_they_mean_to_faster_whisper(name: str, repository: str) -> None:
    model = catalog.load().find(name)
    assert model is not None
    assert model.repository == repository


# The files of these repositories as the hub lists them, all together, in bytes.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tiny", 75_538_270 + 2_249 + 2_203_239 + 459_861),
        ("base", 145_217_532 + 2_309 + 2_203_239 + 459_861),
        ("small", 483_546_902 + 2_370 + 2_203_239 + 459_861),
        ("medium", 1_527_906_378 + 2_257 + 2_203_239 + 459_861),
        ("large-v3", 3_087_284_237 + 2_394 + 340 + 2_480_617 + 1_068_114),
        ("large-v3-turbo", 1_617_884_929 + 2_263 + 340 + 2_710_337 + 1_068_114),
        ("distil-large-v3", 1_512_927_867 + 2_690 + 340 + 2_480_617 + 1_068_114),
        ("distil-large-v3.5", 1_512_927_867 + 2_690 + 340 + 2_480_645 + 1_068_114),
    ],
)
def test_a_download_is_as_large_as_the_catalog_says(name: str, size: int) -> None:
    model = catalog.load().find(name)
    assert model is not None
    assert model.download_bytes == pytest.approx(size, rel=0.005)


def test_every_model_has_its_dimensions_and_the_bundled_one_those_of_its_file() -> None:
    own = catalog.load()
    assert all(isinstance(model.dimensions, Dimensions) for model in own.models)
    demo = own.find("demo")
    assert demo is not None
    assert demo.dimensions == read_dimensions(catalog.data_path("demo") / "model.bin")


# The operator's own catalog


def test_own_entries_win_and_the_others_stay(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text('[models.small]\nrepository = "me/small"\n[models.mine]\npath = "clinic"\naliases = ["turbo"]')
    catalogue = catalog.load(own)
    assert [model.name for model in catalogue.models][:2] == ["small", "mine"]
    small, turbo, large = (catalogue.find(name) for name in ("small", "turbo", "large-v3-turbo"))
    assert small is not None
    assert small.repository == "me/small"
    assert turbo is not None
    assert turbo.folder(tmp_path / "models") == tmp_path / "clinic"
    assert large is not None
    assert large.aliases == ("whisper-large-v3-turbo", "whisper-turbo")
    names = [name.casefold() for model in catalogue.models for name in model.names]
    assert len(names) == len(set(names))


def test_a_model_directory_is_found_by_its_name_with_its_window(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(f'[models.mine]\npath = "{tmp_path / "elsewhere"}"\nwindow_s = 10')
    catalogue = catalog.load(own)
    with pytest.raises(ModelUnavailable, match=r"'mine' is in .*elsewhere, which is not a directory"):
        catalog.resolve("mine", tmp_path, catalogue)
    filled(tmp_path / "elsewhere", *WHOLE[:-1])
    with pytest.raises(ModelUnavailable, match=r"it lacks vocabulary\.json"):
        catalog.resolve("mine", tmp_path, catalogue)
    filled(tmp_path / "elsewhere", *WHOLE)
    found = catalog.resolve("mine", tmp_path, catalogue)
    assert (found.name, found.folder, found.window_s) == ("mine", tmp_path / "elsewhere", 10)
    assert catalog.resolve(str(tmp_path / "elsewhere"), tmp_path, catalogue) == found


def test_missing_own_catalog_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"no\.toml: .*No such file"):
        catalog.load(tmp_path / "no.toml")


# Folders of the models directory


def test_a_folder_of_the_models_directory_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(filled(tmp_path / "here"))
    filled(tmp_path / "here" / "clinic")  # what else has the name doesn't matter
    folder = filled(tmp_path / "models" / "clinic", *WHOLE)
    found = catalog.resolve("clinic", tmp_path / "models")
    assert (found.name, found.folder, found.window_s) == ("clinic", folder, 30.0)


def test_the_path_of_a_pulled_model_is_that_model(tmp_path: Path) -> None:
    folder = filled(tmp_path / "Systran--faster-whisper-tiny", *WHOLE)
    assert catalog.resolve(str(folder), tmp_path) == catalog.resolve("tiny", tmp_path)


def test_a_truncated_pulled_model_is_pulled_again(tmp_path: Path) -> None:
    folder = filled(tmp_path / "Systran--faster-whisper-tiny", *WHOLE)
    Manifest("Systran/faster-whisper-tiny", "1" * 40, {"model.bin": FileInfo(2, "0" * 64)}).write(folder)
    assert catalog.resolve("tiny", tmp_path).folder == folder
    (folder / "model.bin").write_bytes(b"{")
    assert manifest.read(folder).misfits(folder) == ["model.bin"]
    assert catalog.resolve("tiny", tmp_path).folder is None


# Other places


@pytest.mark.parametrize("name", ["base", "whisper-base", "Systran--faster-whisper-base"])
def test_a_folder_called_as_a_model_of_the_catalog_is_that_model(tmp_path: Path, name: str) -> None:
    folder = filled(tmp_path / "models" / name, *WHOLE)
    for asked in ("base", "Systran/faster-whisper-base", name):
        found = catalog.resolve(asked, tmp_path / "models")
        assert (found.name, found.folder) == ("base", folder)
    assert catalog.pullable("base", tmp_path / "models", KNOWN).folder == folder


def test_a_mirror_s_folder_is_that_model_too(tmp_path: Path) -> None:
    folder = filled(tmp_path / "deepdml--faster-whisper-large-v3-turbo-ct2", *WHOLE, "preprocessor_config.json")
    assert catalog.resolve("turbo", tmp_path).folder == folder


def test_a_model_elsewhere_is_used_until_the_models_directory_has_it(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", "Systran/faster-whisper-base")
    shared = filled(tmp_path / "share" / "whisper-small", *WHOLE)
    catalogue = catalog.load(elsewhere=[tmp_path / "hub", tmp_path / "share", tmp_path / "none"])
    models = tmp_path / "models"
    assert catalog.resolve("base", models, catalogue).folder == snapshot
    assert catalog.resolve("small", models, catalogue).folder == shared
    assert catalog.resolve(str(snapshot), models, catalogue).name == "base"
    own = filled(models / "Systran--faster-whisper-base", *WHOLE)
    assert catalog.resolve("base", models, catalogue).folder == own


def test_a_cached_repository_outside_the_catalog_is_found_by_its_id(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", "me/own-ct2")
    catalogue = catalog.load(elsewhere=[tmp_path / "hub"])
    assert catalog.resolve("me/own-ct2", tmp_path / "models", catalogue).folder == snapshot
    assert catalog.resolve(str(snapshot), tmp_path / "models", catalogue).name == "me/own-ct2"
    half = cached(tmp_path / "hub", "me/half", "1" * 40, *WHOLE[:-1])
    assert catalog.resolve("me/half", tmp_path / "models", catalogue).folder is None
    assert half.is_dir()


def test_an_unusable_folder_elsewhere_does_not_count_as_the_model(tmp_path: Path) -> None:
    pointer = filled(tmp_path / "share" / "small", *WHOLE)
    (pointer / "model.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    known = catalog.load(elsewhere=[tmp_path / "share"])
    assert catalog.resolve("small", tmp_path / "models", known).folder is None
    (tmp_path / "models").mkdir()
    pointer.rename(tmp_path / "models" / "small")
    with pytest.raises(ModelUnavailable, match="only a Git LFS pointer"):
        catalog.resolve("small", tmp_path / "models", known)


def test_settings_say_where_else_models_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert catalog.of(Settings()).elsewhere == (tmp_path / "hub",)
    assert catalog.of(Settings.model_validate({"extra_models_dirs": "none"})).elsewhere == ()
    both = Settings.model_validate({"extra_models_dirs": "/a, ~/b"})
    assert catalog.of(both).elsewhere == (Path("/a"), Path.home() / "b")


# What is pinned


def test_pinned_digests_are_those_that_were_published() -> None:
    """One line a model, to be compared with any of the projects that publish them."""
    published = {
        "base": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        "small": "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
        "large-v3": "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
        "large-v3-turbo": "e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da",
    }
    for name, sha256 in published.items():
        model = KNOWN.find(name)
        assert model is not None
        assert model.pinned["model.bin"].sha256 == sha256
        assert model.revision


def test_every_model_but_two_is_pinned_and_small_files_are_shared() -> None:
    unpinned = [model.name for model in KNOWN.models if "model.bin" not in model.pinned]
    assert unpinned == ["large-v1", "distil-large-v2"]
    carried = [model for model in KNOWN.models if model.wheels]
    assert [model.name for model in carried] == ["tiny.en", "base"]
    for model in carried:
        assert set(model.pinned) == {"config.json", "model.bin", "tokenizer.json", "vocabulary.txt"}
        assert model.download_bytes == sum(facts.size for facts in model.pinned.values())


# Models that are none of ours


def test_another_kind_of_model_is_recognised_by_its_files(tmp_path: Path) -> None:
    folder = filled(tmp_path / "wav2vec", "model.safetensors")
    (folder / "config.json").write_text('{"architectures": ["Wav2Vec2ForCTC"]}')
    with pytest.raises(ModelUnavailable, match="not Whisper but Wav2Vec2ForCTC"):
        catalog.resolve(str(folder), tmp_path)
    (folder / "config.json").write_text('{"architectures": ["WhisperForConditionalGeneration"]}')
    with pytest.raises(ModelUnavailable, match="converted first: ct2-transformers-converter"):
        catalog.resolve(str(folder), tmp_path)


def test_translation_model_of_ctranslate2_is_refused(tmp_path: Path) -> None:
    folder = filled(tmp_path / "opus", *WHOLE)
    (folder / "model.bin").write_bytes(struct.pack("<IH16sII", 6, 16, b"TransformerSpec\0", 7, 0))
    with pytest.raises(ModelUnavailable, match="is not Whisper but TransformerSpec"):
        catalog.resolve(str(folder), tmp_path)


def test_a_checkpoint_of_openai_is_recognised_as_a_file_and_in_a_folder(tmp_path: Path) -> None:
    folder = filled(tmp_path / "cache", "tiny.pt")
    for name in (folder, folder / "tiny.pt"):
        with pytest.raises(ModelUnavailable, match="openai-whisper: use SOTTO_MODEL=tiny"):
            catalog.resolve(str(name), tmp_path)


# What a client may have pulled


PIECES = ["a", "B-", "..", ".", "/", "\\", "--", "~", "tiny", "demo", "\n", "\0", "é", " ", "%2F", ":"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_no_name_that_a_client_writes_leads_out_of_the_models_directory(name: str) -> None:
    models = Path("/no/such/models")
    try:
        found = catalog.pullable(name, models, KNOWN)
    except ModelNotFound:
        return
    assert found.folder == catalog.data_path("demo") or (found.folder, found.target.parent) == (None, models)
    assert manifest.is_plain(found.target.name)
    assert found.target.name.count("--") == (found.model is None or found.model.repository is not None)


@pytest.mark.parametrize("name", ["tiny", "TINY", "Systran/faster-whisper-tiny", "systran/Faster-whisper-tiny"])
def test_every_name_of_the_catalog_is_pulled_into_its_one_folder(name: str, tmp_path: Path) -> None:
    found = catalog.pullable(name, tmp_path, KNOWN)
    assert found.target == tmp_path / "Systran--faster-whisper-tiny"


@pytest.mark.parametrize("name", ["a--b/c", "a/b--c", "a/b..c", "a/b.", "a/b-", f"{'x' * 97}/y"])
def test_names_that_the_hub_cannot_have_are_no_repositories(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="neither in the catalog nor a repository id"):
        catalog.pullable(name, tmp_path, KNOWN)
    with pytest.raises(ModelUnavailable, match="Unknown model"):
        catalog.resolve(name, tmp_path, KNOWN)
