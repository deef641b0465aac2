"""`sotto bench`: rounds with several clients, here and by a server, and a page without names of this machine."""

import json
import socket
from pathlib import Path

import pytest

from server.cli.main import run
from server.commands.bench import percentile
from tests.support.bad_inputs import DATA
from tests.support.serving import ROOT, serving

pytestmark = pytest.mark.usefixtures("cpu_offline", "logging_as_before")


@pytest.mark.parametrize(
    ("part", "expected"), [(0.5, 2.0), (0.95, 4.0), (0.0, 1.0), (0.25, 1.0), (0.26, 2.0), (1.0, 4.0)]
)
def test_percentiles_are_values_that_were_measured(part: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], part) == expected
    assert percentile([7.0], part) == 7.0


def test_a_report_has_figures_versions_and_settings_but_no_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bench", "--clients", "1,2", "--seconds", "0"]) == 0
    page = capsys.readouterr().out
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.split("|")[1:3] for line in table[2:]] == [[" 1 ", " 1 "], [" 2 ", " 2 "]]
    assert len({line.count("|") for line in table}) == 1
    for expected in ("int8 on cpu", "CTranslate2 ", "CPUs by affinity", "AVX", "allocator", "batches at once"):
        assert expected in page
    for hidden in (socket.gethostname(), str(ROOT), str(Path.home())):
        assert hidden not in page


def test_a_server_is_measured_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SOTTO_API_KEY", "secret")
    with serving(api_keys="secret", offline=1) as server:
        arguments = ["bench", str(DATA / "en_00.wav"), "--server", server.base_url, "--clients", "3"]
        assert run([*arguments, "--seconds", "0", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert run([*arguments, "--model", "another"]) == 1
        assert "'another' does not exist" in capsys.readouterr().err
    (measured,) = report["rounds"]
    assert (report["model"], measured["clients"], measured["requests"]) == ("demo", 3, 3)
    assert report["audio_s"] == pytest.approx(2.444, abs=0.01)
    assert 0 < measured["p50_s"] <= measured["p95_s"]
    assert measured["peak_bytes"] > 0
    assert server.base_url not in json.dumps(report)


@pytest.mark.parametrize(
    "arguments",
    [["--clients", "0"], ["--clients", "1,x"], *(["--seconds", text] for text in ("long", "nan", "inf", "-1"))],
)
def test_invalid_arguments_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", *arguments]) == 2
    assert arguments[1] in capsys.readouterr().err


def test_a_file_that_is_no_recording_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(DATA / "missing.wav")]) == 1
    assert "missing.wav" in capsys.readouterr().err
