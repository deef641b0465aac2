"""`sotto models`, in this process where that shows it and in one of its own where only that does."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.cli.main import run
from tests.support.fakes import wait_until
from tests.support.hub_standin import Hub, Repository, standing_in
from tests.support.model_folders import WHOLE, filled, pulled

ROOT = Path(__file__).parents[2]
END_S = 120.0
NAME = "distil-large-v2"  # of the catalog, and not pinned there: any content will do
TINY = "Systran/faster-distil-whisper-large-v2"
FILES = {name: f"{name} ".encode() * 20_000 for name in WHOLE}
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def models(no_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models directory; no other setting."""
    folder = tmp_path / "models"
    monkeypatch.setenv("SOTTO_MODELS_DIR", str(folder))
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with standing_in(monkeypatch) as running:
        running.repositories[TINY] = Repository(dict(FILES))
        yield running


def sotto(*arguments: str | Path, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "server", "models", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def error_of(captured: Captured) -> str:
    """The one line that says what is wrong."""
    (line,) = captured.readouterr().err.splitlines()
    assert line.startswith("sotto: ")
    return line


# Help


@pytest.mark.parametrize("verb", ["list", "ls", "pull", "remove", "rm", "path", "verify", "export", "import"])
def test_each_verb_has_help(verb: str, capsys: Captured) -> None:
    assert run(["models", verb, "--help"]) == 0
    assert f"Usage: sotto models {verb} " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["fetch"], ["pull"], ["path", "a", "b"], ["export", "tiny"]])
def test_a_mistake_in_the_command_is_2(arguments: list[str], capsys: Captured) -> None:
    assert run(["models", *arguments]) == 2
    assert "(see sotto models" in error_of(capsys)


# list


def test_without_a_command_the_list_is_shown(capsys: Captured) -> None:
    assert run(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert run(["models"]) == 0
    assert capsys.readouterr().out == listed


def rows(captured: Captured) -> list[list[str]]:
    return [line.split() for line in captured.readouterr().out.splitlines() if line]


def test_list_shows_installed_models_and_the_default(models: Path, capsys: Captured) -> None:
    pulled(models / "me--small", "me/small")
    filled(models / "clinic", *WHOLE)
    filled(models / "half", "model.bin")
    assert run(["models", "list"]) == 0
    head, clinic, half, small, demo, *_ = rows(capsys)
    assert head == ["NAME", "SIZE", "CPU", "GPU", "LANGUAGES"]
    assert demo == ["demo", "12.8", "MB", "0.3", "GB", "0.5", "GB", "multilingual", "bundled"]
    assert (clinic[0], clinic[-1]) == ("clinic", "local")
    assert "it lacks config.json" in " ".join(half)
    assert (small[:2], small[-1]) == (["*", "me/small"], "me/small")  # the largest, as none has a known name


def test_list_all_shows_what_could_be_pulled(capsys: Captured) -> None:
    assert run(["models", "ls", "--all"]) == 0
    turbo = next(row for row in rows(capsys) if row[0] == "large-v3-turbo")
    assert (
        " ".join(turbo[1:])
        == "1,620.8 MB 2.2 GB 3.8 GB multilingual not installed: sotto models pull large-v3-turbo"
    )


def test_list_prints_json_for_programs(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    pulled(models / "Systran--faster-distil-whisper-large-v2", TINY)
    monkeypatch.setenv("SOTTO_MODEL", NAME)
    assert run(["models", "list", "--json", "--all"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["models_dir"], listed["default"]) == (str(models), NAME)
    by_name = {model["name"]: model for model in listed["models"]}
    assert [name for name, model in by_name.items() if model["default"]] == [NAME]
    assert [name for name, model in by_name.items() if model["installed"]] == [NAME, "demo"]
    assert [name for name, model in by_name.items() if model["demo"]] == [[*by_name][-1]] == ["demo"]
    assert by_name["demo"]["window_s"] == 10
    tiny = by_name[NAME]
    assert (tiny["repository"], tiny["revision"], tiny["checksums"]) == (TINY, "1" * 40, True)
    assert by_name["small"]["estimated_bytes"]["cpu"]["int8"] > 241_000_000
    assert by_name["small"]["size_bytes"] == pytest.approx(486_212_372, rel=0.005)


def test_the_operators_catalog_adds_names(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    filled(tmp_path / "elsewhere", *WHOLE)
    (tmp_path / "mine.toml").write_text('[models.ward]\npath = "elsewhere"\nlanguages = "de"')
    monkeypatch.setenv("SOTTO_CATALOG", str(tmp_path / "mine.toml"))
    assert run(["models", "path", "ward"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'elsewhere'}\n"
    monkeypatch.setenv("SOTTO_CATALOG", str(tmp_path / "no.toml"))
    assert run(["models", "list"]) == 1
    assert "no.toml" in error_of(capsys)


# pull


def test_a_pulled_model_is_there_and_is_not_pulled_twice(hub: Hub, models: Path, capsys: Captured) -> None:
    assert run(["models", "pull", NAME, "demo"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"{NAME} is in {models / 'Systran--faster-distil-whisper-large-v2'}, from the hub",
        f"demo is already here: {ROOT / 'models/demo'}",
    ]
    hub.requests.clear()
    assert run(["models", "pull", NAME]) == 0
    assert f"{NAME} is already here" in capsys.readouterr().out
    assert hub.requests == []
    assert run(["models", "verify", NAME]) == 0


def test_latest_takes_a_newer_revision(hub: Hub, models: Path, capsys: Captured) -> None:
    assert run(["models", "pull", NAME]) == 0
    hub.repositories[TINY] = Repository(FILES | {"model.bin": b"newer"}, revision="2" * 40)
    assert run(["models", "pull", NAME]) == 0
    folder = models / "Systran--faster-distil-whisper-large-v2"
    assert (folder / "model.bin").read_bytes() == FILES["model.bin"]
    assert run(["models", "pull", "--latest", NAME]) == 0
    assert (folder / "model.bin").read_bytes() == b"newer"
    filled(models / "clinic", *WHOLE)
    assert run(["models", "pull", "--latest", "clinic"]) == 2
    assert run(["models", "pull", "--latest", "demo"]) == 2
    assert "it has no revisions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("cut", "broke off at .*; the next pull resumes there"),
        ("lie", "arrived damaged and was removed"),
        ("unknown", "does not exist"),
        ("offline", "SOTTO_OFFLINE .* forbids downloading it"),
    ],
)
def test_a_pull_that_fails_says_why(
    fault: str, message: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("server.models.hub.RETRY_WAIT_S", 0.0)
    hub.cuts = {"model.bin": [100_000] + [0] * 20} if fault == "cut" else {}
    hub.lies = {"model.bin"} if fault == "lie" else set()
    if fault == "offline":
        monkeypatch.setenv("SOTTO_OFFLINE", "1")
    assert run(["models", "pull", "no/such" if fault == "unknown" else NAME]) == 1
    assert re.search(message, error_of(capsys))


def test_ctrl_c_says_how_to_resume(hub: Hub, models: Path, capsys: Captured) -> None:
    hub.cuts["model.bin"] = [100_000] + [0] * 20
    half = models / "Systran--faster-distil-whisper-large-v2.partial" / "model.bin"
    process = sotto("pull", NAME, HF_ENDPOINT=hub.endpoint)
    try:
        wait_until(lambda: half.exists() and half.stat().st_size == 100_000, END_S)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=END_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, b"")
    assert err.decode().strip() == "sotto: stopped; `sotto models pull distil-large-v2` resumes the download"
    assert run(["models", "list"]) == 0
    assert "pull interrupted at 0.3 MB of 1.1 MB" in capsys.readouterr().out
    hub.cuts.clear()
    hub.requests.clear()
    assert run(["models", "pull", NAME]) == 0
    assert [request.headers["Range"] for request in hub.requests_for("model.bin")] == ["bytes=100000-"]


# path and remove


def test_path_prints_the_folder_for_scripts(models: Path, capsys: Captured) -> None:
    filled(models / "clinic", *WHOLE)
    assert run(["models", "path", "clinic"]) == 0
    assert capsys.readouterr().out == f"{models / 'clinic'}\n"
    assert run(["models", "path", "small"]) == 1
    assert "to get it: sotto models pull small" in error_of(capsys)
    (models / "clinic" / "tokenizer.json").unlink()
    assert run(["models", "path", "clinic"]) == 1
    assert "it lacks tokenizer.json" in error_of(capsys)


class Terminal(io.StringIO):
    """Standard input at which somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "status"),
    [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("perhaps\nno\n", 1), ("", 130)],
    ids=["y", "Yes", "n", "Enter", "unclear", "Ctrl-D"],
)
def test_remove_asks(
    answer: str, status: int, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    filled(models / "clinic", *WHOLE)
    monkeypatch.setenv("SOTTO_MODEL", "clinic")
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert run(["models", "remove", "clinic"]) == status
    assert (models / "clinic").exists() is (status != 0)
    question = capsys.readouterr().out
    assert question.startswith("Remove clinic, 0.0 MB in ")
    assert "It is the default model. [y/N]" in question


def test_remove_needs_yes_without_a_terminal(models: Path, capsys: Captured) -> None:
    filled(models / "clinic", *WHOLE)
    assert run(["models", "remove", "clinic"]) == 2
    assert "--yes" in error_of(capsys)
    assert run(["models", "rm", "-y", "clinic"]) == 0
    assert not (models / "clinic").exists()


@pytest.mark.parametrize("name", ["demo", str(ROOT / "models" / "demo")])
def test_the_bundled_model_is_not_removed(name: str, capsys: Captured) -> None:
    assert run(["models", "remove", "--yes", name]) == 1
    assert "comes with Sotto" in error_of(capsys)


# verify


def test_verify_sets_the_exit_status(models: Path, capsys: Captured) -> None:
    assert run(["models", "verify"]) == 0
    pulled(models / "me--small")
    filled(models / "clinic", *WHOLE)
    assert run(["models", "verify"]) == 3
    assert capsys.readouterr().out.splitlines()[1:] == [
        "demo: all files match their checksums",
        "clinic: placed by hand, no checksums; to record them, add --record",
        "me/small: all files match their checksums",
    ]
    assert run(["models", "verify", "--record", "clinic"]) == 0
    assert run(["models", "verify"]) == 0
    content = (models / "me--small" / "model.bin").read_bytes()
    (models / "me--small" / "model.bin").write_bytes(content[:-1] + b"!")
    (models / "clinic" / "source.json").unlink()
    capsys.readouterr()
    assert run(["models", "verify"]) == 1
    assert "me/small: model.bin is damaged" in capsys.readouterr().out
    (models / "me--small" / "model.bin").unlink()
    assert run(["models", "verify", "me/small"]) == 1


# export and import


def test_a_model_is_exported_and_imported_on_another_machine(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    pulled(models / "me--small")
    file = tmp_path / "small.tar"
    assert run(["models", "export", "me/small", str(file)]) == 0
    assert run(["models", "export", "me/small", str(file)]) == 1  # never over another
    assert "already exists" in capsys.readouterr().err
    monkeypatch.setenv("SOTTO_MODELS_DIR", str(tmp_path / "there"))
    monkeypatch.setenv("SOTTO_OFFLINE", "1")
    assert run(["models", "import", str(file)]) == 0
    folder = tmp_path / "there" / "me--small"
    assert capsys.readouterr().out == f"me/small is in {folder}; to serve it: sotto serve --model me/small\n"
    assert run(["models", "verify", "me/small"]) == 0
    assert run(["models", "import", str(file), "--as", "ward"]) == 0
    assert run(["models", "path", "ward"]) == 0


def test_a_model_goes_through_pipes(models: Path, tmp_path: Path) -> None:
    folder = pulled(models / "me--small")
    exporter = sotto("export", "me/small", "-")
    bundle, err = exporter.communicate(timeout=END_S)
    assert (exporter.returncode, err.decode()) == (0, "me/small is in -: 4 files, 0.1 MB\n")
    importer = sotto("import", "-", SOTTO_MODELS_DIR=str(tmp_path / "there"))
    importer.communicate(bundle, timeout=END_S)
    assert importer.returncode == 0
    for path in folder.iterdir():
        assert (tmp_path / "there" / "me--small" / path.name).read_bytes() == path.read_bytes()


def test_export_that_fails_leaves_no_file(models: Path, tmp_path: Path, capsys: Captured) -> None:
    folder = pulled(models / "me--small")
    (folder / "model.bin").write_bytes(b"!" + (folder / "model.bin").read_bytes()[1:])
    assert run(["models", "export", "me/small", str(tmp_path / "small.tar")]) == 1
    assert "model.bin is damaged" in error_of(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_import_of_no_bundle_names_the_cause(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "some.tar").write_bytes(b"x" * 5000)
    for name in ("some.tar", "none.tar"):
        assert run(["models", "import", str(tmp_path / name)]) == 1
    err = capsys.readouterr().err.splitlines()
    assert "not a file of `sotto models export`" in err[0]
    assert "No such file" in err[1]


def test_nothing_is_written_to_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["models", "export", "demo", "-"]) == 1
    assert "standard output is a terminal" in error_of(capsys)


# A folder


def test_a_folder_is_imported_and_linked(models: Path, tmp_path: Path, capsys: Captured) -> None:
    source = filled(tmp_path / "mine", *WHOLE)
    assert run(["models", "import", str(source)]) == 0
    assert capsys.readouterr().out == f"mine is in {models / 'mine'}; to serve it: sotto serve --model mine\n"
    assert run(["models", "import", "--link", "--as", "same", str(source)]) == 0
    assert (models / "same").resolve() == source
    assert run(["models", "verify", "mine"]) == 0
    assert run(["models", "import", str(filled(tmp_path / "photos", "one.jpg"))]) == 1
    assert "is not a usable model" in capsys.readouterr().err
    assert run(["models", "import", "--link", str(source / "model.bin")]) == 2
    assert "--link is for folders" in error_of(capsys)


def test_the_model_at_a_path_is_listed_as_the_default(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("SOTTO_MODEL", str(filled(tmp_path / "somewhere" / "mine", *WHOLE)))
    assert run(["models", "list"]) == 0
    _, mine, demo, *_ = rows(capsys)
    assert (mine[:2], demo[0]) == (["*", str(tmp_path / "somewhere" / "mine")], "demo")


def test_languages_of_a_local_model_are_those_of_its_vocabulary(models: Path, capsys: Captured) -> None:
    assert run(["models", "import", "--as", "copy", str(ROOT / "models" / "demo")]) == 0
    capsys.readouterr()
    assert run(["models", "list"]) == 0
    _, copy, *_ = rows(capsys)
    assert "multilingual" in copy


def test_a_hand_placed_model_of_the_catalog_is_compared_with_it(models: Path, capsys: Captured) -> None:
    filled(models / "base", *WHOLE)
    assert run(["models", "verify", "base"]) == 3
    out = capsys.readouterr().out
    assert "model.bin" in out
    assert "differ from the catalog's: another conversion, or damage" in out
