"""What `sotto doctor` finds: by child processes on this machine, and in this one on machines that are made up."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import ctranslate2
import jsonschema
import pytest

from server import __version__
from server.cli.main import run
from server.commands import doctor, probe
from server.commands.checks import Check
from server.commands.doctor import DoctorReport, ask_child, examine, held, real_time
from server.commands.probe import Answer
from server.errors import ModelUnavailable
from server.models.catalog import SAMPLE_TEXT
from server.settings import Settings
from server.system import seccomp
from server.system.landlock import landlock_version
from server.whisper import devices
from tests.support.broken_av import BROKEN, break_av
from tests.support.fakes import taken_port

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "doctor.schema.json").read_text("utf-8"))
HEARD = {"compute_type": "int8", "text": SAMPLE_TEXT, "audio_s": 3.0, "took_s": 0.1}


pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(port=0, models_dir=tmp_path, tune_allocator=False, threads=1)


@pytest.fixture
def no_media(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded: no processes, and no second for them."""
    monkeypatch.setattr(doctor, "media", lambda _: Check("media", "ok", "not tried"))


def ask_here(question: str, *arguments: str, confined: bool = False) -> Answer:
    """As in a child process, but in this one, where a test has put things out of order; nothing is decoded."""
    refused: Answer = {"done": [], "refused": ["open files"]}  # not tried here: it can't be undone
    answers = {"decode": HEARD, "sandbox": refused}
    return answers.get(question) or probe.answer(question, *arguments)


def found(report: DoctorReport, name: str) -> Check:
    """The only check of that name."""
    (check,) = (check for check in report.checks if check.name == name)
    return check


# This machine, as it is


def test_on_a_cpu_everything_is_tried_and_the_program_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("contacted somebody")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("SOTTO_DEVICE", "cpu")
    monkeypatch.setenv("SOTTO_PORT", "0")
    monkeypatch.setenv("SOTTO_API_KEYS", "very-secret")
    assert run(["doctor", "--json"]) == 0
    written = capsys.readouterr().out
    assert "very-secret" not in written
    report = json.loads(written)
    jsonschema.validate(report, SCHEMA)
    assert (report["runs"], report["device"], report["compute_type"]) == (True, "cpu", "int8")
    assert {each["compute_type"] for each in report["trials"]} >= {"int8", "float32"}
    assert all(each["speed"] > 0 for each in report["trials"] if not each["error"])
    assert "problem" not in {check["status"] for check in report["checks"]}


@pytest.fixture(params=BROKEN)
def broken_av(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return break_av(request.param, tmp_path, monkeypatch)


@pytest.mark.usefixtures("cpu_offline")
def test_if_ffmpeg_fails_the_report_names_it_and_no_device(broken_av: str) -> None:
    command = [sys.executable, "-m", "server", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "SOTTO_PORT": "0"}, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    problems = {check["name"]: check["text"] for check in report["checks"] if check["status"] == "problem"}
    assert problems.keys() == {"codecs", "media"}
    assert problems["codecs"].startswith("FFmpeg (av) ")
    assert all(broken_av in text for text in problems.values())
    assert not [check for check in report["checks"] if "SOTTO_DEVICE" in check["advice"]]
    assert report["trials"] == []


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives the child process another program."""

    def put(program: str) -> None:
        (tmp_path / "stub_trial.py").write_text(program)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(doctor, "MODULE", "stub_trial")

    return put


@pytest.mark.parametrize(
    ("program", "expected"), [("import os; os.abort()", "SIGABRT"), ("raise SystemExit(3)", "status 3")]
)
def test_a_process_that_crashes_is_an_answer(child: Callable[[str], None], program: str, expected: str) -> None:
    child(program)
    assert expected in ask_child("cuda")["error"]


def test_a_process_that_never_ends_is_an_answer(
    child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    child("import threading; threading.Event().wait()")
    monkeypatch.setattr(doctor, "TRIAL_S", 0.1)
    monkeypatch.setattr(doctor, "END_S", 0.0)
    assert "did not finish within 0.1 s" in ask_child("cuda")["error"]


def test_breaking_out_of_a_confined_process_is_tried() -> None:
    answer = ask_child("sandbox")
    assert answer.keys() == {"done", "refused"}
    assert {"open files", "connect", "raise its limits"} <= set(answer["refused"])
    if seccomp.is_supported():
        assert answer["done"] == []
    (check,) = held(lambda _: answer)
    assert (check.status, "raise its limits" in check.text) == ("note" if answer["done"] else "ok", True)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ({"done": ["look files up"], "refused": ["connect"]}, "note", "could still look files up"),
        ({"error": "it was ended by SIGSYS"}, "problem", "SIGSYS"),
    ],
)
def test_a_confined_process_that_breaks_out_is_reported(answer: Answer, status: str, text: str) -> None:
    (check,) = held(lambda _: answer)
    assert check.status == status
    assert text in check.text


# Machines that are made up


@pytest.mark.usefixtures("no_media")
@pytest.mark.parametrize(
    ("asked", "failing", "picked", "status", "runs"),
    [
        ("auto", set(), "int8", "ok", True),
        ("auto", {"int8"}, "float32", "note", True),
        ("auto", {"int8", "float32", "int8_float32"}, "", "problem", False),
        ("int8_float32", set(), "int8_float32", "ok", True),
        ("int8_float32", {"int8_float32"}, "", "problem", False),
    ],
)
def test_the_first_compute_type_that_works_is_picked(
    settings: Settings, asked: str, failing: set[str], picked: str, status: str, runs: bool
) -> None:
    def ask(question: str, *arguments: str) -> Answer:
        if question == "decode" and json.loads(arguments[0])["options"]["compute_type"] in failing:
            return {"error": "it was ended by SIGILL"}
        return ask_here(question, *arguments)

    report = examine(settings.model_copy(update={"device": "cpu", "compute_type": asked}), ask)
    assert (report.device, report.compute_type, report.runs) == ("cpu", picked, runs)
    assert found(report, "pick").status == status
    assert {trial.compute_type for trial in report.trials if trial.error} == failing
    jsonschema.validate(json.loads(report.json()), SCHEMA)


@pytest.mark.usefixtures("no_media")
@pytest.mark.parametrize(
    ("device", "asked", "advice"),
    [
        ("cpu", "auto", ""),
        ("cuda:0", "auto", "set SOTTO_DEVICE=cpu"),
        ("cpu", "int8", "set SOTTO_COMPUTE_TYPE=auto"),
    ],
)
def test_the_advice_differs_from_what_has_failed(settings: Settings, device: str, asked: str, advice: str) -> None:
    def ask(question: str, *arguments: str) -> Answer:
        answers: dict[str, Answer] = {
            "decode": {"error": "out of order"},
            "device": {"device": device, "ladder": ["int8"], "supported": ["int8"]},
        }
        return answers.get(question) or ask_here(question, *arguments)

    report = examine(settings.model_copy(update={"compute_type": asked}), ask)
    assert (found(report, "pick").status, found(report, "pick").advice) == ("problem", advice)


@pytest.mark.usefixtures("no_media")
def test_a_device_with_a_wrong_result_does_not_work(settings: Settings) -> None:
    def ask(question: str, *arguments: str) -> Answer:
        return {**HEARD, "text": "You"} if question == "decode" else ask_here(question, *arguments)

    report = examine(settings, ask)
    assert not report.runs
    assert report.trials[0].error == f"the transcript is 'You' instead of {SAMPLE_TEXT!r}"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine with a GPU and all that belongs to it."""
    types = {"float16", "float32", "int8", "int8_float16"}
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    monkeypatch.setattr(ctranslate2, "get_supported_compute_types", lambda *_: types)
    monkeypatch.setattr(devices, "load_cublas", lambda: True)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Made Up, 81920 MiB, 80000 MiB, 999.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return monkeypatch


@pytest.mark.usefixtures("gpu", "no_media")
def test_a_gpu_is_reported_and_used(settings: Settings) -> None:
    report = examine(settings, ask_here)
    assert (report.device, report.compute_type, report.runs) == ("cuda:0", "float16", True)
    assert found(report, "gpu").text == "NVIDIA Made Up, 81920 MiB, 80000 MiB, 999.1; CTranslate2 finds 1"
    assert found(report, "cublas").status == "ok"
    jsonschema.validate(json.loads(report.json()), SCHEMA)


@pytest.mark.usefixtures("no_media")
@pytest.mark.parametrize(
    ("asked", "device", "used"), [("auto", "cpu", "the CPU is used"), ("cuda", "cuda:0", "nothing")]
)
def test_without_cublas_the_report_says_what_installs_it(
    settings: Settings, gpu: pytest.MonkeyPatch, asked: str, device: str, used: str
) -> None:
    gpu.setattr(devices, "load_cublas", lambda: False)
    report = examine(settings.model_copy(update={"device": asked}), ask_here)
    assert report.device == device
    check = found(report, "cublas")
    assert (check.status, check.advice) == ("note", f"run {devices.cublas_advice()}")
    assert used in check.text


@pytest.mark.usefixtures("no_media")
def test_a_gpu_that_only_the_driver_sees_is_reported(settings: Settings, gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    report = examine(settings, ask_here)
    assert (report.device, report.runs) == ("cpu", True)
    assert "CTranslate2 finds none" in found(report, "gpu").text
    report = examine(settings.model_copy(update={"device": "cuda"}), ask_here)
    assert (report.device, report.runs) == ("", False)
    assert "SOTTO_DEVICE=cuda" in found(report, "decode").text


@pytest.mark.usefixtures("gpu", "no_media")
def test_a_failing_driver_is_reported(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert "nvidia-smi fails" in found(examine(settings, ask_here), "gpu").text


@pytest.mark.usefixtures("no_media")
def test_without_ctranslate2_the_report_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ctranslate2", "av"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in ("server.whisper.devices", "server.audio.decode"):
        monkeypatch.delitem(sys.modules, module)
    report = examine(settings, ask_here)
    assert not report.runs
    assert "ctranslate2" in found(report, "gpu").text
    assert found(report, "codecs").status == "problem"
    jsonschema.validate(json.loads(report.json()), SCHEMA)


@pytest.mark.parametrize(
    ("speed", "shown"), [(0.42, "0.4x real time"), (9.5, "9.5x real time"), (30.4, "30x real time")]
)
def test_a_model_slower_than_real_time_is_not_at_zero(speed: float, shown: str) -> None:
    assert real_time(speed) == shown


@pytest.mark.usefixtures("no_media")
def test_the_model_that_is_to_be_served_is_loaded_too(
    settings: Settings, scripted_model: Path, tmp_path: Path
) -> None:
    asked: list[str] = []

    def ask(question: str, *arguments: str) -> Answer:
        if question == "decode":
            asked.append(json.loads(arguments[0])["folder"])
        return ask_here(question, *arguments)

    here = settings.model_copy(update={"model": str(scripted_model), "device": "cpu"})
    assert found(examine(here, ask), "load").text == f"{scripted_model.name} in int8: 30x real time"
    assert asked[-1] == str(scripted_model)


@pytest.mark.usefixtures("no_media")
def test_a_broken_model_is_a_problem(settings: Settings, scripted_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(scripted_model, broken)
    (broken / "model.bin").write_bytes(b"<html>404</html>")

    def ask(question: str, *arguments: str) -> Answer:
        tried = question == "decode" and str(broken) in arguments[0]
        return probe.answer(question, *arguments) if tried else ask_here(question, *arguments)

    report = examine(settings.model_copy(update={"model": str(broken), "device": "cpu"}), ask)
    check = found(report, "load")
    assert (check.status, report.runs) == ("problem", False)
    assert str(broken) in check.text


@pytest.mark.usefixtures("no_media")
def test_a_bundled_model_that_is_damaged_is_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise ModelUnavailable("damaged")

    monkeypatch.setattr(doctor, "resolve", fail)
    report = examine(settings, ask_here)
    assert (found(report, "decode").text, report.runs, report.trials) == ("damaged", False, [])


def test_a_decoder_that_does_not_start_is_a_problem(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.audio.media_decoder.open_media", lambda _: 1 / 0)
    check = doctor.media(settings)
    assert (check.status, check.text) == ("problem", "recordings can't be decoded: division by zero")


def test_a_codec_missing_in_ffmpeg_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.codecs(probe.answer("codecs")).status == "ok"
    monkeypatch.setattr("av.codecs_available", {"flac"})
    check = doctor.codecs(probe.answer("codecs"))
    assert (check.status, check.text.partition(", but not ")[2][:3]) == ("note", "mp3")


# The page


def test_the_report_has_a_line_for_each_check_and_its_advice() -> None:
    checks = [Check("cpu", "ok", "fast"), Check("keys", "problem", "none", "make one")]
    first, *lines = DoctorReport(checks, []).page().splitlines()
    assert first == f"sotto {__version__} can't run here: 1 problem"
    assert [line.split() for line in lines] == [
        ["ok", "cpu", "fast"],
        ["problem", "keys", "none"],
        ["->", "make", "one"],
    ]
    assert f"sotto {__version__} is ready: int8 on CPU\n" in DoctorReport(checks[:1], [], "cpu", "int8").page()


@pytest.mark.usefixtures("no_media")
def test_the_exit_status_is_for_scripts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "ask_child", ask_here)
    monkeypatch.setenv("SOTTO_DEVICE", "cpu")
    with taken_port() as port:
        monkeypatch.setenv("SOTTO_PORT", str(port))
        assert run(["doctor"]) == 1
    assert f"port {port}: Address already in use" in capsys.readouterr().out
    monkeypatch.setenv("SOTTO_PORT", "0")
    assert run(["doctor"]) == 0
    assert run(["doctor", "--model", "no-such-model"]) == 1
    monkeypatch.setenv("SOTTO_PORT", "many")
    assert run(["doctor"]) == 2


@pytest.mark.skipif(not landlock_version(), reason="no Landlock here")
def test_trials_are_confined_as_engines_are(child: Callable[[str], None], tmp_path: Path) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}.secret"
    secret.write_text("secret")
    child(f"""
import json
from server.system.child_process import attach
channel, _ = attach()
try: answer = open({str(secret)!r}).read()
except OSError as error: answer = error.strerror
channel.sendall(json.dumps({{"said": answer}}).encode())
""")
    assert ask_child("cuda") == {"said": "secret"}
    assert ask_child("cuda", confined=True) == {"said": "Permission denied"}
    assert ask_child("decode", json.dumps({"folder": str(tmp_path)}), confined=True)["said"] == "Permission denied"
