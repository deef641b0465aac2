import math
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from server.options import ModelOptions
from server.settings import Settings

ROOT = Path(__file__).parent.parent
HEAVY = {"numpy", "av", "onnxruntime", "ctranslate2", "faster_whisper", "fastapi", "uvicorn"}


@pytest.fixture(autouse=True)
def _not_even_a_models_directory(no_settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOTTO_MODELS_DIR")


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TOML file that `SOTTO_CONFIG` names."""
    path = tmp_path / "sotto.toml"
    path.touch()
    monkeypatch.setenv("SOTTO_CONFIG", str(path))
    return path


def keys(settings: Settings, kind: str = "api") -> list[str]:
    return [key.get_secret_value() for key in getattr(settings, f"{kind}_keys")]


def test_without_settings_the_server_is_local_open_and_names_no_model() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.model, settings.api_keys) == ("127.0.0.1", 8000, None, ())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("offline", "1", True),
        ("offline", "false", False),
        ("device", "cuda:1", "cuda:1"),
        ("device", "cuda:0,cuda:1", "cuda:0,cuda:1"),
        ("preload", "small, turbo,,", ("small", "turbo")),
        ("keep_alive", "90", 90.0),
        ("keep_alive", "5m", 300.0),
        ("keep_alive", "0", 0.0),
        ("keep_alive", "-1", math.inf),
        ("grace_seconds", "0.5", 0.5),
        ("log_format", "json", "json"),
        ("models_dir", "/srv/models", Path("/srv/models")),
        ("models_dir", "~/models", Path.home() / "models"),
    ],
)
def test_the_environment_sets(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"SOTTO_{name.upper()}", text)
    assert getattr(Settings(), name) == value


def test_the_options_of_a_model_are_those_of_the_settings_and_no_others() -> None:
    assert Settings().model_options("auto") == ModelOptions()
    settings = Settings(
        compute_type="int16",
        threads=3,
        workers=5,
        prompt_bucket=16,
        tune_allocator=False,
        batch=2,
        bulk_batch=6,
        beam_size=1,
        encoder_cache_mb=7,
    )
    options = ModelOptions("cuda:1", "int16", 3, 5, 16, False, False, 2, 6, 1, 7 << 20)
    assert settings.model_options("cuda:1") == options


def test_the_default_folder_of_models_is_in_the_home() -> None:
    assert Settings().models_dir == Path.home() / ".cache" / "sotto" / "models"


def test_sources_are_two_words_or_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().model_sources == ("index", "hub")
    monkeypatch.setenv("SOTTO_MODEL_SOURCES", "/mnt/models, hub,~/here")
    assert Settings().model_sources == ("/mnt/models", "hub", "~/here")
    monkeypatch.setenv("SOTTO_MODEL_SOURCES", "pypi")
    with pytest.raises(ValidationError, match="'pypi' is neither 'index' nor 'hub' nor a path"):
        Settings()


def test_a_toml_file_sets(toml: Path) -> None:
    toml.write_text('port = 9001\nmodel = "small"\noffline = true\n')
    settings = Settings()
    assert (settings.port, settings.model, settings.offline) == (9001, "small", True)


def test_the_environment_goes_before_the_file_and_the_command_line_before_both(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text('port = 9001\nhost = "file"\nmodel = "file"\n')
    monkeypatch.setenv("SOTTO_HOST", "environment")
    monkeypatch.setenv("SOTTO_MODEL", "environment")
    settings = Settings(model="command line")
    assert (settings.port, settings.host, settings.model) == (9001, "environment", "command line")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    defaults = Settings()
    monkeypatch.setenv(f"SOTTO_{name.upper()}", "")
    assert Settings() == defaults


def test_an_empty_config_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTO_CONFIG", "")
    assert Settings().port == 8000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", ["a"]), ("a,b", ["a", "b"]), (" a , b ,", ["a", "b"]), (" , ", []), ("[1]", ["[1]"])],
)
def test_keys_are_a_comma_list(monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]) -> None:
    monkeypatch.setenv("SOTTO_API_KEYS", text)
    assert keys(Settings()) == expected


def test_admin_keys_are_given_as_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("boss c\n")
    monkeypatch.setenv("SOTTO_ADMIN_KEYS", " a, b")
    monkeypatch.setenv("SOTTO_ADMIN_KEYS_FILE", str(tmp_path / "keys"))
    settings = Settings()
    assert (keys(settings), keys(settings, "admin")) == ([], ["a", "b", "boss c"])
    assert "boss c" not in f"{settings!r}"
    monkeypatch.setenv("SOTTO_ADMIN_KEYS_FILE", str(tmp_path / "none"))
    with pytest.raises(ValidationError, match="which SOTTO_ADMIN_KEYS_FILE names, can't be read: "):
        Settings()


@pytest.mark.parametrize("text", ['api_keys = "a,b"', 'api_keys = ["a", "b"]', 'api_keys = ["", " a", " ", "b"]'])
def test_keys_in_the_file_are_a_list_or_a_comma_list(toml: Path, text: str) -> None:
    toml.write_text(text)
    assert keys(Settings()) == ["a", "b"]


def test_keys_of_a_file_come_with_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text("# of the office\nlaptop c#1\n\n  d  \n")
    monkeypatch.setenv("SOTTO_API_KEYS_FILE", str(path))
    assert keys(Settings()) == ["laptop c#1", "d"]
    monkeypatch.setenv("SOTTO_API_KEYS", "a,b")
    assert keys(Settings()) == ["a", "b", "laptop c#1", "d"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "which SOTTO_API_KEYS_FILE names, can't be read: "),
        (b"\xff", "which SOTTO_API_KEYS_FILE names, can't be read: "),
        (b"", "which SOTTO_API_KEYS_FILE names, holds no key"),
        (b"# none yet\n\n", "which SOTTO_API_KEYS_FILE names, holds no key"),
    ],
)
def test_a_key_file_without_a_key_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("SOTTO_API_KEYS_FILE", str(path))
    with pytest.raises(ValidationError, match=complaint):
        Settings()


def test_keys_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTO_API_KEYS", "hunter2,swordfish")
    settings = Settings()
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "hunter2" not in shown
    assert "swordfish" not in shown


@pytest.mark.parametrize(
    "text", ['api_key = "hunter2"', 'api_keys = ["hunter2", 5]', 'api_keys = { a = "hunter2" }']
)
def test_keys_are_not_shown_when_they_are_refused(toml: Path, text: str) -> None:
    toml.write_text(text)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "hunter2" not in f"{refused.value} {refused.value!r}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "eight"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("device", "cpu,cuda:1"),
        ("device", "cuda:0,"),
        ("keep_alive", "soon"),
        ("memory_budget_mb", "-1"),
        ("idle_timeout_seconds", "0"),
        ("compute_type", "int4"),
        ("threads", "-1"),
        ("max_audio_seconds", "0"),
        ("max_upload_mb", "0"),
        ("offline", "perhaps"),
        ("log_level", "loud"),
        ("beam_size", "21"),
    ],
)
def test_a_bad_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"SOTTO_{name.upper()}", text)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]
    assert name in str(refused.value)


AUTOMATIC = sorted(
    name
    for name, field in Settings.model_fields.items()
    if field.default is None and {int, float} & {*get_args(field.annotation)} and name != "keep_alive"
)


def test_these_numbers_are_automatic_unless_they_are_set() -> None:
    assert AUTOMATIC == [
        "batch",
        "bulk_batch",
        "max_queue_seconds",
        "max_queue_seconds_per_client",
        "max_requests",
        "max_requests_per_client",
        "max_uploads",
        "memory_budget_mb",
        "threads",
        "workers",
    ]


@pytest.mark.parametrize("name", AUTOMATIC)
def test_an_automatic_number_is_none_until_it_is_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert getattr(Settings(), name) is None
    monkeypatch.setenv(f"SOTTO_{name.upper()}", "3")
    assert getattr(Settings(), name) == 3


@pytest.mark.parametrize("name", AUTOMATIC)
@pytest.mark.parametrize("text", ["0", " 0 ", "0.0"])
def test_zero_is_neither_automatic_nor_unlimited(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"SOTTO_{name.upper()}", text)
    with pytest.raises(ValidationError, match="leave it empty or unset to have it chosen automatically") as refused:
        Settings()
    assert [error["loc"] for error in refused.value.errors()] == [(name,)]


@pytest.mark.parametrize("name", AUTOMATIC)
def test_zero_in_the_file_is_refused_as_well(toml: Path, name: str) -> None:
    toml.write_text(f"{name} = 0\n")
    with pytest.raises(ValidationError, match="leave it empty or unset to have it chosen automatically"):
        Settings()


@pytest.mark.parametrize(
    "name",
    ["request_timeout_seconds", "json_heartbeat_seconds", "min_upload_bytes_per_second", "encoder_cache_mb"],
)
def test_zero_turns_off_what_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SOTTO_{name.upper()}", "0")
    assert getattr(Settings(), name) == 0
    assert (Settings.model_fields[name].description or "").endswith("0: off.")


def test_a_bad_value_in_the_file_is_refused_by_name(toml: Path) -> None:
    toml.write_text("port = 99999")
    with pytest.raises(ValidationError, match="port"):
        Settings()


def test_an_unknown_key_in_the_file_is_refused_by_name(toml: Path) -> None:
    toml.write_text("prot = 8001")
    with pytest.raises(ValidationError, match="prot"):
        Settings()


def test_a_config_file_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTO_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(OSError, match=r"SOTTO_CONFIG names .*absent\.toml"):
        Settings()


@pytest.mark.parametrize("content", [b"port = ", b"port: 8000", b"\xff\xfe"])
def test_a_config_file_that_is_not_toml_is_named(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(OSError, match=r"SOTTO_CONFIG names .*sotto\.toml, which is not TOML"):
        Settings()


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]  # mypy knows it too


def test_limits_are_kept_in_mebibytes() -> None:
    settings = Settings(max_upload_mb=2, spool_mb=3)
    assert (settings.max_upload_bytes, settings.spool_bytes) == (2 * 1024**2, 3 * 1024**2)
    assert settings.memory_budget_bytes is None
    assert Settings(memory_budget_mb=5).memory_budget_bytes == 5 * 1024**2


def modules_loaded_by(*arguments: str) -> set[str]:
    """Top-level modules that `python ARGUMENTS` imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    names = (
        line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")
    )
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "arguments", [("-c", "import server.settings"), ("-c", "import server.cli.main"), ("-m", "server", "--help")]
)
def test_nothing_heavy_is_loaded_before_it_is_needed(arguments: tuple[str, ...]) -> None:
    loaded = modules_loaded_by(*arguments)
    assert {"server", "pydantic_settings"} <= loaded
    assert not loaded & HEAVY


def test_keep_alive_and_preload_may_come_from_the_file(toml: Path) -> None:
    toml.write_text('keep_alive = "1h"\npreload = ["small", "turbo"]\n')
    assert (Settings().keep_alive, Settings().preload) == (3600, ("small", "turbo"))
    toml.write_text("keep_alive = -1\n")
    assert Settings().keep_alive == math.inf


def test_every_device_gets_the_models() -> None:
    assert Settings(device="cuda:0,cuda:1").devices == ("cuda:0", "cuda:1")
    assert Settings().devices == ("auto",)
