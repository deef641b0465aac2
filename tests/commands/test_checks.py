import math
import shutil
import tempfile
from pathlib import Path

import pytest

from server.commands import checks
from server.commands.checks import (
    address,
    cages,
    files,
    keys,
    libraries,
    model,
    models_dir,
    non_defaults,
    ram,
    scratch,
    unknown_variables,
)
from server.settings import Settings
from server.system.machine import Memory
from tests.support.fakes import taken_port
from tests.support.model_folders import WHOLE, filled


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_server_without_a_key_is_fine(host: str) -> None:
    assert keys(Settings(host=host)).status == "ok"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "2001:db8::7", "server.example"])  # noqa: S104
def test_an_open_server_without_a_key_is_reported(host: str) -> None:
    check = keys(Settings(host=host))
    assert check.status == "note"
    assert f"listening on {host} without API keys" in str(check)
    assert "SOTTO_API_KEYS" in check.advice
    assert keys(Settings(host=host, api_keys="secret")).status == "ok"


@pytest.mark.parametrize(
    ("names", "warnings"),
    [
        (["SOTTO_PORT", "SOTTO_CONFIG", "HOME"], []),
        (["SOTTO_PROT"], ["there is no setting SOTTO_PROT; did you mean SOTTO_PORT?"]),
        (["SOTTO_XYZZY_QUUX"], ["there is no setting SOTTO_XYZZY_QUUX"]),
    ],
)
def test_unknown_variables_are_reported(names: list[str], warnings: list[str]) -> None:
    assert [str(check) for check in unknown_variables(dict.fromkeys(names, "1"))] == warnings


def test_an_address_that_cannot_be_bound_is_a_problem() -> None:
    with taken_port() as port:
        check = address(Settings(port=port))
    assert (check.status, check.text) == (
        "problem",
        f"can't listen on 127.0.0.1 port {port}: Address already in use",
    )
    assert "SOTTO_PORT" in check.advice
    assert address(Settings(port=0)).status == "ok"
    assert address(Settings(host="no.such.host.invalid")).status == "problem"


def test_little_free_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "memory", lambda: Memory(4 << 30, 3 << 30))
    assert ram().status == "ok"
    monkeypatch.setattr(checks, "memory", lambda: Memory(4 << 30, 1 << 29))
    assert (ram().status, ram().text) == ("note", "0.5 GiB free of 4.0 GiB available to this process")


def test_too_few_file_descriptors_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(max_connections=100, max_requests=10)
    monkeypatch.setattr(checks, "open_files", lambda: math.inf)
    assert files(settings).text == "inf open files allowed (enough for 100 connections, 10 requests)"
    assert files(settings).status == "ok"
    monkeypatch.setattr(checks, "open_files", lambda: 200)
    assert files(settings).status == "note"
    assert files(settings).text == "200 open files allowed (too few for 100 connections, 10 requests)"


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that TMPDIR names, on a disk."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(checks, "filesystem", lambda _: "ext4")
    return tmp_path


def test_a_folder_for_decoded_audio_is_a_disk_with_room(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch(Settings(spool_mb=1, uploads_mb=1)).status == "ok"
    assert str(temp) in scratch(Settings(spool_mb=1, uploads_mb=1)).text
    assert "SOTTO_SPOOL_MB" in scratch(Settings(spool_mb=1 << 40)).advice
    monkeypatch.setattr(checks, "filesystem", lambda _: "tmpfs")
    assert "which is in memory (tmpfs)" in scratch(Settings(spool_mb=1, uploads_mb=1)).text
    assert scratch(Settings(spool_mb=1, uploads_mb=1)).status == "note"


def test_defaults_give_no_note_but_a_full_disk_does(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = shutil.disk_usage(temp)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=5 << 30))
    assert scratch(Settings()).status == "ok"
    assert scratch(Settings(spool_mb=8192)).status == "note"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=1 << 29))
    assert (scratch(Settings()).status, scratch(Settings()).text[:8]) == ("note", "0.5 GiB ")


def test_an_unused_folder_for_decoded_audio_is_reported(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(temp / "absent"))
    check = scratch(Settings(spool_mb=1, uploads_mb=1))
    assert (check.status, check.advice) == ("note", f"TMPDIR is {temp / 'absent'}, which isn't writable")


def test_no_folder_for_decoded_audio_is_a_problem(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temp / "absent"))
    check = scratch(Settings(spool_mb=1, uploads_mb=1))
    assert (check.status, check.name) == ("problem", "temp")
    assert "TMPDIR" in check.advice


@pytest.mark.parametrize(
    ("system", "version", "status"), [("linux", 4, "ok"), ("linux", 0, "note"), ("darwin", 4, "note")]
)
def test_the_sandbox_is_complete_or_what_it_lacks_is_reported(
    monkeypatch: pytest.MonkeyPatch, system: str, version: int, status: str
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("server.system.sandbox.landlock_version", lambda: version)
    assert cages().status == status


def test_a_library_that_is_not_installed_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {check.status for check in libraries()} == {"ok"}
    monkeypatch.setattr(checks, "LIBRARIES", ("no-such-library",))
    assert [str(check) for check in libraries()] == [
        "no-such-library is not installed; reinstall Sotto with its dependencies"
    ]


def test_settings_are_listed_with_their_source_but_without_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOTTO_MODELS_DIR", raising=False)
    assert non_defaults(Settings(), {}).text == "all defaults"
    file = tmp_path / "sotto.toml"
    file.write_text('beam_size = 1\napi_keys = ["from-file"]\n')
    environment = {"SOTTO_CONFIG": str(file), "SOTTO_PORT": "9000", "SOTTO_API_KEYS": "laptop from-variable"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text = non_defaults(Settings(model="small"), environment).text
    assert text == (
        f"SOTTO_API_KEYS=(not shown), SOTTO_BEAM_SIZE=1 (from {file} or the command line), "
        f"SOTTO_MODEL=small (from {file} or the command line), SOTTO_PORT=9000"
    )


def test_a_folder_for_models_has_room_or_can_be_made(tmp_path: Path) -> None:
    assert models_dir(Settings(models_dir=tmp_path / "to" / "be" / "made")).status == "ok"
    file = tmp_path / "file"
    file.touch()
    assert models_dir(Settings(models_dir=file / "models")).status == "note"


@pytest.mark.parametrize(
    ("name", "offline", "status", "expected"),
    [
        ("demo", True, "note", "sotto models pull base"),
        ("tiny", False, "note", "the first start downloads it"),
        ("tiny", True, "problem", "SOTTO_OFFLINE forbids"),
        ("no-such-model", False, "problem", "Unknown model"),
    ],
)
def test_a_model_is_installed_or_the_check_says_what_to_do(
    tmp_path: Path, name: str, offline: bool, status: str, expected: str
) -> None:
    check, found = model(Settings(model=name, models_dir=tmp_path, offline=offline))
    assert check.status == status
    assert expected in str(check)
    assert (found is None) == (name == "no-such-model")


def test_a_model_of_the_operators_catalog_is_known(tmp_path: Path) -> None:
    filled(tmp_path / "ward", *WHOLE)
    (tmp_path / "own.toml").write_text('[models.ward]\npath = "ward"\naliases = ["station"]')
    check, found = model(Settings(model="station", catalog=tmp_path / "own.toml"))
    assert (check.status, found and found.folder) == ("ok", tmp_path / "ward")
    check, _ = model(Settings(catalog=tmp_path / "none.toml"))
    assert check.status == "problem"
    assert "none.toml" in check.text


def test_keys_are_counted(tmp_path: Path) -> None:
    assert "2 set, and 1 for admins;" in keys(Settings(api_keys="a,b", admin_keys="c")).text
    assert "none set, and 1 for admins;" in keys(Settings(admin_keys="c")).text
