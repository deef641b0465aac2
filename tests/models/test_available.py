from pathlib import Path

import pytest

from server.errors import ModelUnavailable
from server.languages import NAMES
from server.models.available import AvailableModels, languages_of
from server.models.dimensions import Dimensions
from server.models.known_model import KnownModel
from server.settings import Settings
from tests.support.model_folders import WHOLE, filled, pulled

SIZES = {"width": 384, "encoder_layers": 4, "decoder_layers": 4, "mels": 80}


def stock(models_dir: Path, **settings: object) -> AvailableModels:
    return AvailableModels(Settings.model_validate({"models_dir": models_dir, "offline": True, **settings}))


def named(inventory: AvailableModels) -> dict[str, KnownModel]:
    return {known.name: known for known in inventory.models()}


def test_models_in_the_models_directory_can_be_named(tmp_path: Path) -> None:
    pulled(tmp_path / "Systran--faster-whisper-tiny", "Systran/faster-whisper-tiny")
    pulled(tmp_path / "me--own")
    filled(tmp_path / "plain", *WHOLE)
    inventory = stock(tmp_path)
    assert [known.names for known in inventory.models()] == [
        ("tiny", "whisper-tiny", "Systran/faster-whisper-tiny"),
        ("demo", "whisper-demo"),
        ("me/own", "me--own"),
        ("plain",),
    ]
    assert not any(known.problem for known in inventory.models())


def test_the_bundled_model_can_always_be_named(tmp_path: Path) -> None:
    filled(tmp_path / "plain", *WHOLE)
    models = stock(tmp_path, model="plain").models()
    assert [known.name for known in models] == ["plain", "demo"]
    assert models[1].size_bytes > 10_000_000
    assert models[1].dimensions
    assert models[1].window_s == 10
    assert [known.demo for known in models] == [False, True]


def test_configured_models_come_first_each_once(tmp_path: Path) -> None:
    elsewhere = filled(tmp_path / "elsewhere" / "mine", *WHOLE)
    models_dir = tmp_path / "models"
    for name in ("a", "b", "c"):
        filled(models_dir / name, *WHOLE)
    inventory = stock(models_dir, model=str(elsewhere), preload="b, c,b")
    assert [known.name for known in inventory.chosen] == ["mine", "b", "c"]
    assert [known.name for known in inventory.models()] == ["mine", "b", "c", "demo", "a"]


def test_a_name_that_the_operator_gives_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="none-such"):
        stock(tmp_path, preload="none-such")


def test_an_incomplete_model_is_known_with_its_problem(tmp_path: Path) -> None:
    filled(tmp_path / "half", "config.json", "model.bin")
    known = named(stock(tmp_path))["half"]
    assert "lacks tokenizer.json" in known.problem
    filled(tmp_path / "half", *WHOLE)
    assert stock(tmp_path).refresh(known).problem == ""


def test_pulls_under_way_and_names_of_others_are_left_out(tmp_path: Path) -> None:
    pulled(tmp_path / "me--own.partial")
    for name in ("turbo", "whisper-turbo"):  # two folders for one name: it means the first of them
        filled(tmp_path / name, *WHOLE, "preprocessor_config.json")
    assert list(named(stock(tmp_path))) == ["large-v3-turbo", "demo"]


def test_a_chosen_model_whose_folder_is_gone_is_still_known(tmp_path: Path) -> None:
    folder = filled(tmp_path / "plain", *WHOLE)
    inventory = stock(tmp_path, model="plain")
    folder.rename(tmp_path / "moved")
    known = named(inventory)
    assert "can't be read" in known["plain"].problem
    assert not known["moved"].problem


def test_the_stamp_changes_when_a_model_comes_or_a_file_of_one(tmp_path: Path) -> None:
    inventory = stock(tmp_path)
    stamps = [str(inventory.stamp())]
    folder = filled(tmp_path / "plain", "config.json")
    stamps.append(str(inventory.stamp()))
    filled(folder, *WHOLE)
    stamps.append(str(inventory.stamp()))
    folder.rename(tmp_path / "renamed")
    stamps.append(str(inventory.stamp()))
    assert len(set(stamps)) == 4
    assert stamps[-1] == str(inventory.stamp())


def test_a_link_to_nowhere_does_not_hide_what_comes(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    inventory = stock(tmp_path)
    before = inventory.stamp()
    filled(tmp_path / "new", *WHOLE)
    assert inventory.stamp() != before


def test_the_window_of_the_encoder_is_as_the_settings_say(tmp_path: Path) -> None:
    assert not stock(tmp_path).chosen[0].dynamic_context
    assert stock(tmp_path, encoder_window="auto").chosen[0].dynamic_context


def test_a_catalog_of_the_operator_s_own_counts(tmp_path: Path) -> None:
    folder = filled(tmp_path / "elsewhere", *WHOLE)
    catalog = tmp_path / "own.toml"
    catalog.write_text(f'[models.own]\npath = "{folder}"\nlanguages = "de"\nwindow_s = 20.0\n')
    known = named(stock(tmp_path / "models", catalog=catalog))["own"]
    assert (known.languages, known.window_s) == (("de",), 20)


@pytest.mark.parametrize(
    ("vocabulary", "language", "languages"),
    [
        (51_864, "multilingual", 1),
        (51_865, "multilingual", len(NAMES) - 1),
        (51_866, "multilingual", len(NAMES)),
        (51_866, None, len(NAMES)),
        (51_865, "de", 1),
    ],
)
def test_languages_follow_from_the_vocabulary(vocabulary: int, language: str | None, languages: int) -> None:
    assert len(languages_of(Dimensions(**SIZES, vocabulary=vocabulary), language)) == languages


def test_of_a_file_that_is_no_model_no_language_is_known() -> None:
    assert languages_of(None, "multilingual") == ()
