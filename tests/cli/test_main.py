"""The command line, in this process where that shows it and in one of its own where only that does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server import __version__
from server.cli.main import run
from server.commands.checks import keys
from server.commands.serve import check_environment, example
from server.commands.transcribe import DEMO
from server.settings import Settings
from tests.support.bad_inputs import DATA
from tests.support.fakes import taken_port

ROOT = Path(__file__).parents[2]
END_S = 120.0

ENGLISH, SPANISH = DATA / "en_00.wav", DATA / "es_00.wav"
ENGLISH_TEXT, SPANISH_TEXT = "The party ends at two o'clock.", "El tren empieza a las seis."


# A line from the help of each command.
COMMANDS = {
    "serve": "  sotto serve --model turbo",
    "doctor": "Exits with 0 if the server can run, with 1 if not. Makes no network connections.",
    "transcribe": "  sotto transcribe talk.mp3 --server http://box:8000    use a running server",
    "bench": "  sotto bench talk.mp3 --model small             your own",
    "models": "3 (verify) nothing is damaged, but a model has no checksums; 130 Ctrl-C",
    "ps": "environment: SOTTO_API_KEY, or else OPENAI_API_KEY, is the API key",
    "completion": '  sotto completion zsh > "${fpath[1]}/_sotto"',
}

pytestmark = pytest.mark.usefixtures("cpu_offline", "logging_as_before")


def sotto(*arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "server", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Help and mistakes


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_as_a_user_asks_for_them(option: str) -> None:
    process = sotto(option)
    out, err = process.communicate(timeout=END_S)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("Usage: sotto" if option == "--help" else f"sotto {__version__}\n")
    assert option == "--version" or {"serve", "transcribe"} <= set(out.split())


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: sotto" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_has_help(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, option]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: sotto {command} ")
    assert f"\n  {COMMANDS[command]}\n" in out  # in a line of its own, as it was written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modles"], "No such command 'modles'. Did you mean 'models'? (see sotto --help)"),
        (["models", "pul"], "No such command 'pul'. Did you mean 'pull'? (see sotto models --help)"),
        (["serve", "--prt", "1"], "No such option '--prt'. Did you mean '--port'? (see sotto serve --help)"),
        (
            ["serve", "--port", "x"],
            "Invalid value for '--port': 'x' is not a valid integer. (see sotto serve --help)",
        ),
        (["transcribe"], "Missing argument 'FILE...'. (see sotto transcribe --help)"),
    ],
)
def test_a_usage_error_is_one_line_that_says_where_to_read_more(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert capsys.readouterr() == ("", f"sotto: {message}\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [("SOTTO_PORT", "70000"), ("SOTTO_DEVICE", "tpu"), ("SOTTO_BEAM_SIZE", "many"), ("SOTTO_COMPUTE_TYPE", "int3")],
)
def test_a_bad_setting_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert run(["transcribe", str(ENGLISH)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sotto: {name}: ")


def test_zero_for_an_automatic_setting_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOTTO_MAX_REQUESTS", "0")
    assert run(["transcribe", str(ENGLISH)]) == 2
    assert capsys.readouterr().err == (
        "sotto: SOTTO_MAX_REQUESTS: 0 is not a valid value; leave it empty or unset to have it chosen "
        "automatically\n"
    )


def test_a_bad_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--port", "70000"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sotto: SOTTO_PORT (or the option of that name): ")


def test_a_broken_settings_file_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sotto.toml"
    file.write_text("port = [")
    monkeypatch.setenv("SOTTO_CONFIG", str(file))
    assert run(["transcribe", str(ENGLISH)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(file) in line


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [(["--language", "klingon"], 2, "'klingon'"), (["--model", "no-such-model"], 1, "no-such-model")],
)
def test_unknown_arguments_are_named(
    arguments: list[str], status: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["transcribe", str(ENGLISH), *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("sotto: ")
    assert complaint in line


# sotto serve


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080/"),
        ("0.0.0.0", "http://127.0.0.1:8080/"),  # noqa: S104
        ("localhost", "http://localhost:8080/"),
        ("192.0.2.7", "http://192.0.2.7:8080/"),  # it listens nowhere else
        ("server.example", "http://server.example:8080/"),
        ("::1", "'http://[::1]:8080/"),  # a shell takes brackets for a pattern
        ("::", "'http://[::1]:8080/"),
        ("2001:db8::7", "'http://[2001:db8::7]:8080/"),
    ],
)
def test_the_example_reaches_the_server(host: str, url: str) -> None:
    line = example(Settings(host=host), 8080)
    assert f"curl {url}" in line
    assert "Authorization" not in line


def test_the_example_names_a_file_that_is_there_and_shows_no_key() -> None:
    line = example(Settings(api_keys="secret-1,secret-2"), 8000)
    assert '-H "Authorization: Bearer YOUR_KEY" ' in line
    assert "secret" not in line
    assert Path(line.partition("file=@")[2]).is_file()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"host": "0.0.0.0"}, ["without API keys"]), ({"host": "127.0.0.1"}, [])],  # noqa: S104
)
def test_the_server_logs_what_is_worth_knowing_before_it_loads_a_model(
    settings: dict[str, str], expected: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.commands.serve.short", lambda settings: [keys(settings)])
    check_environment(Settings(**settings))  # type: ignore[arg-type]
    assert [line for line in caplog.messages if any(text in line for text in expected)] == caplog.messages
    assert len(caplog.messages) == len(expected)


def test_the_server_does_not_start_where_it_would_not_run() -> None:
    with taken_port() as port:
        process = sotto("serve", "--port", str(port))
        _, err = process.communicate(timeout=END_S)
    assert process.returncode == 1
    (line,) = [line for line in err.splitlines() if line.startswith("sotto: ")]
    assert line.startswith(f"sotto: can't listen on 127.0.0.1 port {port}: ")
    assert "SOTTO_PORT" in line
    assert "loading model" not in err


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [(["transcribe", str(ENGLISH), str(SPANISH)], f"{DEMO.format('transcribe')}\n"), (["models", "list"], "")],
)
def test_the_reader_of_the_output_may_close_it_early(arguments: list[str], warning: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "server", *arguments]
    usual = os.environ | {"PYTHONUNBUFFERED": ""}
    process = subprocess.run(command, cwd=ROOT, env=usual, stdout=writing, stderr=subprocess.PIPE, timeout=END_S)
    os.close(writing)
    assert (process.returncode, process.stderr.decode()) == (1, warning)
