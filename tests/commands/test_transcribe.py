"""`sotto transcribe`: in this process where that shows it, in one of its own where only that does."""

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import srt

from server.cli.main import run
from server.commands.files import InputFile
from server.commands.transcribe import DEMO, FileJob, Run, TranscribeJob
from server.options import TranscriptionOptions, UploadFd
from server.transcript import Transcript
from tests.support.bad_inputs import DATA
from tests.support.fakes import eventually, peek, wait_until
from tests.support.serving import ROOT, Running, serving

END_S = 120.0
ENGLISH, SPANISH, LONG = DATA / "en_00.wav", DATA / "es_00.wav", DATA / "ten_minutes.ogg"
ENGLISH_TEXT, SPANISH_TEXT = "The party ends at two o'clock.", "El tren empieza a las seis."
DEMO_HERE = f"{DEMO.format('transcribe')}\n"
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


pytestmark = pytest.mark.usefixtures("cpu_offline", "logging_as_before")


def transcribe(*arguments: str | Path) -> int:
    return run(["transcribe", *map(str, arguments)])


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def folder_of(folder: Path, **recordings: Path) -> Path:
    """A folder with copies of recordings; `__` in a name ends a folder's."""
    for name, recording in recordings.items():
        copy = folder.joinpath(*name.split("__")).with_suffix(recording.suffix)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(recording, copy)
    return folder


# Results


def test_two_files_become_two_subtitles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"
    assert transcribe(ENGLISH, SPANISH, "--format", "srt", "--output", folder) == 0
    assert names_in(folder) == ["en_00.srt", "es_00.srt"]
    for stem, text in (("en_00", ENGLISH_TEXT), ("es_00", SPANISH_TEXT)):
        number, times, *lines = (folder / f"{stem}.srt").read_text(encoding="utf-8").strip().splitlines()
        assert (number, lines) == ("1", [text])
        assert times.startswith("00:00:0")
    assert capsys.readouterr().out == ""


def test_text_goes_to_standard_output_one_line_a_file_in_their_order(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert transcribe(DATA / "two_minutes.mp3", ENGLISH, SPANISH) == 0  # the first is the last to be done
    out, err = capfdbinary.readouterr()
    first, *others = out.decode().splitlines()
    assert len(first) > 500
    assert others == [ENGLISH_TEXT, SPANISH_TEXT]
    assert err.decode() == DEMO_HERE


def test_only_the_demo_model_comes_with_a_warning(scripted_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(ENGLISH) == 0
    assert "the demo model only knows" in capsys.readouterr().err
    assert transcribe(ENGLISH, "--model", scripted_model) == 0
    assert capsys.readouterr().err == ""


def test_words_and_language_are_as_asked(tmp_path: Path) -> None:
    arguments = ["--format", "verbose_json", "--words", "--language", "Spanish"]
    assert transcribe(SPANISH, *arguments, "--output", tmp_path) == 0
    answer = json.loads((tmp_path / "es_00.json").read_bytes())
    assert answer["language"] == "spanish"
    assert [word["word"] for word in answer["words"]] == "El tren empieza a las seis".split()
    assert answer["segments"][0]["text"].strip() == SPANISH_TEXT


def test_several_formats_at_once_lie_beside_the_recording(tmp_path: Path) -> None:
    folder_of(tmp_path, talk=ENGLISH)
    assert transcribe(tmp_path / "talk.wav", "--format", "text,srt,json", "--output") == 0
    assert names_in(tmp_path) == ["talk.json", "talk.srt", "talk.txt", "talk.wav"]
    assert (tmp_path / "talk.txt").read_text() == f"{ENGLISH_TEXT}\n"
    assert json.loads((tmp_path / "talk.json").read_bytes())["text"] == ENGLISH_TEXT


def test_output_may_be_a_pattern(tmp_path: Path) -> None:
    folder_of(tmp_path, talk=ENGLISH)
    pattern = tmp_path / "{ext}" / "{stem} of {name}.en.{ext}"
    assert transcribe(tmp_path / "talk.wav", "--format", "srt,text", "--output", pattern) == 0
    assert names_in(tmp_path) == ["srt/talk of talk.wav.en.srt", "talk.wav", "txt/talk of talk.wav.en.txt"]


def test_output_may_be_a_file_for_one_result(tmp_path: Path) -> None:
    assert transcribe(ENGLISH, "--output", tmp_path / "what was said.txt") == 0
    assert names_in(tmp_path) == ["what was said.txt"]


def test_subtitles_are_shaped_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(ENGLISH, "--format", "srt", "--max-line-width", "12", "--max-line-count", "1") == 0
    cues = list(srt.parse(capsys.readouterr().out))
    assert " ".join(cue.content.strip() for cue in cues) == ENGLISH_TEXT
    assert max(len(cue.content.strip()) for cue in cues) <= 12


# What is to be done


def test_directories_are_searched_for_recordings_and_results_lie_in_folders_like_theirs(tmp_path: Path) -> None:
    source, out = folder_of(tmp_path / "in", a__talk=ENGLISH, b__deep__talk=SPANISH, top=ENGLISH), tmp_path / "out"
    (source / "notes.txt").write_text("no recording")
    (source / ".hidden.wav").write_text("no recording")
    (source / "a" / "LOUD.WAV").write_bytes(ENGLISH.read_bytes())
    assert transcribe(source, "--output", out) == 0
    assert names_in(out) == ["a/LOUD.txt", "a/talk.txt", "b/deep/talk.txt", "top.txt"]
    assert (out / "b" / "deep" / "talk.txt").read_text().strip() == SPANISH_TEXT


def test_standard_input_is_a_recording(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "server", "transcribe", "-"],
        cwd=ROOT,
        input=ENGLISH.read_bytes(),
        capture_output=True,
        timeout=END_S,
    )
    out, err = process.stdout.decode(), process.stderr.decode()
    assert (process.returncode, out, err) == (0, f"{ENGLISH_TEXT}\n", DEMO_HERE)


def test_existing_outputs_are_skipped_without_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "en_00.txt").write_text("edited by hand")
    assert transcribe(ENGLISH, SPANISH, "--output", tmp_path) == 0
    assert (tmp_path / "en_00.txt").read_text() == "edited by hand"
    assert (tmp_path / "es_00.txt").read_text().strip() == SPANISH_TEXT
    assert capsys.readouterr().err == f"sotto: 1 of 2 already done; --overwrite redoes them\n{DEMO_HERE}"
    assert transcribe(ENGLISH, SPANISH, "--output", tmp_path, "--overwrite") == 0
    assert (tmp_path / "en_00.txt").read_text().strip() == ENGLISH_TEXT
    assert transcribe(ENGLISH, "--output", tmp_path, "--model", "no-such-model") == 0  # not even loaded


def test_only_formats_that_lack_are_written(tmp_path: Path) -> None:
    (tmp_path / "en_00.srt").write_text("edited by hand")
    assert transcribe(ENGLISH, "--output", tmp_path, "--format", "srt,text") == 0
    assert names_in(tmp_path) == ["en_00.srt", "en_00.txt"]
    assert (tmp_path / "en_00.srt").read_text() == "edited by hand"


# What goes wrong


@pytest.mark.parametrize("bad", ["missing.wav", "README.md", "__init__"])
def test_a_bad_file_is_reported_and_the_others_are_written(
    bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ROOT / "server" / "api" if bad == "__init__" else DATA / bad  # a directory without recordings
    assert transcribe(source, ENGLISH, "--output", tmp_path) == 1
    assert names_in(tmp_path) == ["en_00.txt"]
    assert (tmp_path / "en_00.txt").read_text().strip() == ENGLISH_TEXT
    _warning, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sotto: {source}: ")


def test_a_language_that_the_model_does_not_know_fails_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(ENGLISH, "--language", "cantonese") == 1
    _warning, line = capsys.readouterr().err.splitlines()
    assert "Invalid language 'yue'" in line


def test_a_target_that_can_t_be_written_fails_its_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pattern = tmp_path / "{stem}" / "text"
    (tmp_path / "en_00").write_text("a file where a folder is needed")
    assert transcribe(ENGLISH, SPANISH, "--output", pattern) == 1
    assert (tmp_path / "es_00" / "text").read_text().strip() == SPANISH_TEXT
    assert str(ENGLISH) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["a/one.wav", "b/one.mp3", "--output", "out", "--format", "srt"],
            "2 results would be written to out/one.srt",
        ),
        (
            ["one.wav", "--output", "out", "--format", "json,verbose_json"],
            "2 results would be written to out/one.json",
        ),
        (["one.wav", "--output", "{folder}/{name}"], "one.wav is a recording"),
        (["one.wav", "--output", "{stem}.{language}"], "not {language}"),
        (["one.wav", "--format", "srt,vtt"], "several formats need --output"),
        (["one.wav", "--max-line-width", "30"], "--format srt or vtt"),
        (["one.wav", "--format", "srt", "--min-cue-seconds", "8"], "--min-cue-seconds exceeds"),
        (["-", "-"], "standard input (-) can be named only once"),
        (["one.wav", "--server", "box:8000"], "the address of a server"),
        (["two.wav", "--output", str(ENGLISH)], "is neither a directory nor the name of a result"),
        (["a.wav", "b.wav", "--output", "both.txt"], "2 results would be written to both.txt"),
    ],
)
def test_invalid_arguments_are_reported_before_any_work(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(*arguments) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--format", "docx"], "'docx' is not one of json, text"),
        (["--format", "srt", "--max-line-width", "0"], "0 is not in the range 1<=x<=200"),
        (["--format", "srt", "--max-cue-seconds", "nan"], "'nan' is not a number of seconds"),
        (["--format", "srt", "--max-cue-seconds", "long"], "'long' is not a valid float"),
    ],
)
def test_invalid_option_values_are_reported(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(ENGLISH, *arguments) == 2
    assert complaint in capsys.readouterr().err


# On a terminal and without one


class Terminal:
    """A command on a terminal of its own, and all that it shows there."""

    def __init__(self, *arguments: str | Path, **environment: str) -> None:
        self._own, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 100))
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "transcribe", *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read(self) -> bool:
        """Take up what is shown next; False once nobody can write there any more."""
        try:
            more = os.read(self._own, 1 << 16)
        except OSError:  # Linux says EIO where others say nothing
            return False
        self.shown += more
        return bool(more)

    def wait_for(self, pattern: bytes) -> None:
        while not re.search(pattern, self.shown):
            assert self.read(), self.shown

    def end(self) -> int:
        while self.read():
            pass
        return self.process.wait(END_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)


@contextmanager
def terminal(*arguments: str | Path, **environment: str) -> Iterator[Terminal]:
    shown = Terminal(*arguments, **environment)
    try:
        yield shown
    finally:
        shown.close()


def test_a_terminal_shows_progress_speed_and_what_is_left_then_the_text_and_a_sum() -> None:
    with terminal(DATA / "two_minutes.mp3", ENGLISH) as shown:
        shown.wait_for(rb"0/2 +\d+%\|.*\| 00:\d\d<[\d:?]+, +[\d.]+x")
        assert shown.end() == 0
        assert ENGLISH_TEXT.encode() in shown.shown
        assert re.search(rb"0:02:0\d of audio in 0:\d\d:\d\d \([\d.]+x\)\r\n$", shown.shown)


def test_a_terminal_is_no_recording() -> None:
    with terminal("-") as shown:
        assert shown.end() == 2
        assert b"standard input is a terminal" in shown.shown


def test_ctrl_c_leaves_nothing_half_written_and_the_same_command_goes_on_with_the_rest(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "in", a=ENGLISH, b=LONG)
    out = tmp_path / "out"
    with terminal(source, "--output", out) as shown:
        wait_until(lambda: (out / "a.txt").exists() or shown.process.poll() is not None, END_S)
        shown.process.send_signal(signal.SIGINT)  # in the middle of the long one
        assert shown.end() == 130
        assert b"Traceback" not in shown.shown
    assert names_in(out) == ["a.txt"]
    assert (out / "a.txt").read_text().strip() == ENGLISH_TEXT
    shutil.copy(SPANISH, source / "b.ogg")  # another one of that name, so that this test is short
    os.utime(out / "a.txt", (1, 1))
    with terminal(source, "--output", out) as shown:
        assert shown.end() == 0
        assert b"1 of 2 already done" in shown.shown
    assert names_in(out) == ["a.txt", "b.txt"]
    assert (out / "a.txt").stat().st_mtime == 1
    assert (out / "b.txt").read_text().strip() == SPANISH_TEXT


def test_pipes_get_text_and_no_control_characters() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "server", "transcribe", ENGLISH, DATA / "two_minutes.mp3", "missing.wav"],
        cwd=ROOT,
        capture_output=True,
        timeout=END_S,
    )
    assert process.returncode == 1
    assert not CONTROL.search(process.stdout + process.stderr)
    assert process.stdout.decode().splitlines()[0] == ENGLISH_TEXT
    warning, failure = process.stderr.decode().splitlines(keepends=True)
    assert warning == DEMO_HERE
    assert failure.startswith("sotto: missing.wav: ")


# How many at once


class FakeTranscription:
    """A recording of `left_s` that ends when its event is set."""

    def __init__(self, left_s: float) -> None:
        self.done_s, self.left_s = 0.0, left_s
        self.finished = asyncio.Event()

    async def result(self) -> Transcript:
        await self.finished.wait()
        return Transcript("transcribe", "en", None, self.left_s, ())

    async def close(self) -> None:
        self.left_s = 0.0


class FakeTranscriber:
    """Has recordings of some lengths under way, and keeps them."""

    def __init__(self, *lengths_s: float, at_once: int, ahead_s: float) -> None:
        self.at_once, self.ahead_s = at_once, ahead_s
        self.begun: list[FakeTranscription] = []
        self._lengths_s = list(lengths_s)

    def transcribe(self, source: UploadFd, options: TranscriptionOptions) -> FakeTranscription:
        self.begun.append(FakeTranscription(self._lengths_s.pop(0)))
        return self.begun[-1]


@pytest.mark.parametrize(
    ("lengths_s", "begun"),
    [
        ((1, 1, 1, 1, 1), 3),  # no more than may be under way
        ((50, 60, 1, 1, 1), 2),  # these have enough audio
        ((0, 0, 1, 1, 1), 2),  # nobody knows yet how much these have
    ],
)
def test_recordings_begin_while_there_is_room_for_them(
    lengths_s: tuple[float, ...], begun: int, tmp_path: Path
) -> None:
    recordings = [InputFile(ENGLISH) for _ in lengths_s]
    request = TranscribeJob((), ("text",), TranscriptionOptions(response_format="text"))
    jobs = [FileJob(each, ("text",), 1) for each in recordings]
    state = FakeTranscriber(*lengths_s, at_once=3, ahead_s=100)

    async def go() -> None:
        run = asyncio.create_task(Run(jobs, request, []).go(state))
        await eventually(lambda: len(state.begun) == begun)
        await peek()
        assert len(state.begun) == begun
        for done in range(len(lengths_s)):
            await eventually(lambda done=done: len(state.begun) > done)  # type: ignore[misc]
            state.begun[done].finished.set()
        await run

    asyncio.run(go())


# By a server


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(api_keys="secret", offline=1) as running:
        yield running


RECORDINGS = (ENGLISH, SPANISH, DATA / "long_pause.flac", DATA / "silence_10s.wav")


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        (["--format", "text,srt,vtt,json"], {}),
        (["--format", "verbose_json", "--words"], {"OPENBLAS_NUM_THREADS": "4"}),
        (["--format", "srt", "--max-line-width", "20"], {}),
        (["--task", "translate", "--format", "verbose_json,srt,text"], {}),
    ],
)
def test_a_server_makes_the_same(
    server: Running, arguments: list[str], threads: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOTTO_API_KEY", "secret")
    asked: list[str | Path] = [*RECORDINGS, *arguments, "--output"]
    here, there = tmp_path / "here", tmp_path / "there"
    # In a process of its own, as a server's engine is: what the CPU can do is chosen when CTranslate2 is imported.
    command = [sys.executable, "-m", "server", "transcribe", *asked, here]
    subprocess.run(command, cwd=ROOT, env=os.environ | threads, check=True, timeout=END_S)
    assert transcribe(*asked, there, "--server", f"{server.base_url}/v1") == 0
    assert names_in(here) == names_in(there)
    for name in names_in(here):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name


@pytest.mark.numeric
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.name)
def test_a_stream_says_the_same(server: Running, recording: Path) -> None:
    texts = [
        server.transcribe(recording.name, {"stream": stream, "response_format": "json"}, key="secret").text
        for stream in ("false", "true")
    ]
    events = [
        json.loads(line.removeprefix("data: ")) for line in texts[1].splitlines() if line.startswith("data: {")
    ]
    (done,) = [event for event in events if event["type"] == "transcript.text.done"]
    assert done["text"] == json.loads(texts[0])["text"]


def test_the_demo_model_of_a_server_comes_with_a_warning_too(
    server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOTTO_API_KEY", "secret")
    for model in ([], ["--model", "demo"]):
        assert transcribe(ENGLISH, "--server", server.base_url, *model) == 0
        assert capsys.readouterr() == (f"{ENGLISH_TEXT}\n", f"{DEMO.format('serve')}\n")


def test_an_error_of_the_server_is_reported(
    server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(ENGLISH, "--server", server.base_url) == 1
    assert "key" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert transcribe(DATA / "README.md", "--server", server.base_url) == 1
    assert "could not be decoded" in capsys.readouterr().err


def test_ctrl_c_ends_the_work_of_a_server_too(server: Running, tmp_path: Path) -> None:
    asked = (LONG, "--output", tmp_path, "--server", server.base_url)
    with terminal(*asked, SOTTO_API_KEY="secret") as shown:
        shown.wait_for(rb"0/1 +[1-9]\d*%")
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 130
    assert names_in(tmp_path) == []
    server.wait_until_idle()


def test_an_unreachable_server_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(ENGLISH, "--server", "http://127.0.0.1:9") == 1
    assert "sotto: " in capsys.readouterr().err
