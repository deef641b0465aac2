"""`sotto doctor`: checks whether the server can run here and how fast, and suggests fixes.

Heavy libraries are tried in a child process (`probe`): a crash becomes a line of the report.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from server import __version__
from server.commands.checks import Check, libraries, model, models_dir, non_defaults, python, short
from server.commands.probe import Answer
from server.engine.file_access import engine_access
from server.engine.loader import WhisperLoader
from server.engine.process import environment
from server.errors import SottoError
from server.models.catalog import BUNDLED, SAMPLE, SAMPLE_TEXT, data_path, resolve
from server.options import UploadFd, VadOptions
from server.settings import Settings
from server.system.child_process import ChildProcess, described
from server.system.landlock import FileAccess

MODULE = "server.commands.probe"
TRIAL_S = 600.0  # a large model may load from a slow disk
MEDIA_S = 60.0
END_S = 5.0
SMI = ("nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader")
SMI_S = 30.0
SHOWN_WHOLE = 10  # times real time: below it a digit behind the point is shown
SCHEMA = 1  # increases when programs that read the JSON have to change

OF_ENGINES = ("cuda", "device", "decode")  # questions that concern what engines' processes can do

Ask = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Trial:
    """The bundled recording, decoded in one compute type; `speed` is in times real time, 0 if it failed."""

    device: str
    compute_type: str
    speed: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """All checks, and the device and compute type that the server would use; empty if none works."""

    checks: list[Check]
    trials: list[Trial]
    device: str = ""
    compute_type: str = ""

    @property
    def runs(self) -> bool:
        return not any(check.status == "problem" for check in self.checks)

    def page(self) -> str:
        lines = [f"sotto {__version__} {self._verdict}"]
        for check in self.checks:
            lines.append(f"{check.status:<8} {check.name:<12} {check.text}")
            if check.advice:
                lines.append(f"{'':<21} -> {check.advice}")
        return "\n".join(lines)

    def json(self) -> str:
        return json.dumps({"schema": SCHEMA, "version": __version__, "runs": self.runs, **asdict(self)}, indent=2)

    @property
    def _verdict(self) -> str:
        problems = sum(check.status == "problem" for check in self.checks)
        if problems:
            return f"can't run here: {problems} problem{'s' if problems > 1 else ''}"
        return f"is ready: {self.compute_type} on {self.device.upper()}"


def doctor(settings: Settings, *, as_json: bool) -> int:
    """Print the report; returns an exit status: 0 if the server can run."""
    report = examine(settings, partial(ask_child, confined=settings.engine_sandbox))
    print(report.json() if as_json else report.page())
    return 0 if report.runs else 1


def ask_child(question: str, *arguments: str, confined: bool = False) -> Answer:
    """Return a child process's answer; `error` if it crashes or times out. `confined` as an engine's process."""
    access = _access(question, *arguments) if confined and question in OF_ENGINES else None
    child = ChildProcess(MODULE, question, *arguments, environment=environment(), access=access)
    try:
        child.channel.settimeout(TRIAL_S)
        with child.channel.makefile() as channel:
            output = channel.read()
    except TimeoutError:
        return {"error": f"it did not finish within {TRIAL_S:g} s"}
    finally:
        status = child.close(END_S)
    answer: Answer = json.loads(output) if output else {"error": described(status)}
    return answer


def _access(question: str, *arguments: str) -> FileAccess:
    """As an engine's process has it, and the bundled recording."""
    folders = [Path(json.loads(argument)["folder"]) for argument in arguments if question == "decode"]
    return engine_access(*folders, data_path(SAMPLE).parent)


def examine(settings: Settings, ask: Ask) -> DoctorReport:
    """Run all checks, in the order of the page."""
    is_here, found = model(settings)
    reads = codecs(ask("codecs"))
    checks = [
        python(),
        *libraries(),
        *short(settings),
        models_dir(settings),
        non_defaults(settings),
        reads,
        media(settings),
        *held(ask),
        *gpu(ask("cuda"), settings),
        is_here,
    ]
    if reads.status == "problem":
        return DoctorReport([*checks, Check("decode", "note", "skipped: FFmpeg (av) can't read recordings")], [])
    device = ask("device", settings.devices[0])
    if error := device.get("error"):
        return DoctorReport([*checks, Check("decode", "problem", error)], [])
    report = compute(settings, device, ask)
    if report.compute_type and found and found.folder and found.name != BUNDLED:
        checks.append(load(settings, found.folder, report.device, ask))
    return DoctorReport([*checks, *report.checks], report.trials, report.device, report.compute_type)


def compute(settings: Settings, answer: Answer, ask: Ask) -> DoctorReport:
    """Try every compute type of a device with the bundled model, and pick one."""
    device = answer["device"]
    ladder = answer["ladder"] if settings.compute_type == "auto" else [settings.compute_type]
    try:
        folder = resolve(BUNDLED, settings.models_dir).target
    except SottoError as error:
        return DoctorReport([Check("decode", "problem", error.message)], [], device)
    types = dict.fromkeys([*ladder, *answer["supported"]])
    trials = [decode(loader(settings, folder, device, each), ask) for each in types]
    working = [trial.compute_type for trial in trials if not trial.error]
    picked = next((each for each in ladder if each in working), "")
    checks = [
        Check("decode", "note", f"{trial.compute_type} on {device} fails: {trial.error}")
        if trial.error
        else Check("decode", "ok", f"{BUNDLED} in {trial.compute_type} on {device}: {real_time(trial.speed)}")
        for trial in trials
    ]
    return DoctorReport([*checks, pick(picked, ladder, device, settings)], trials, device, picked)


def pick(picked: str, ladder: list[str], device: str, settings: Settings) -> Check:
    """Report the compute type that the server would use, and why."""
    if not picked:
        return Check("pick", "problem", f"{', '.join(ladder)} on {device}: none works", advice(device, settings))
    if settings.compute_type != "auto":
        return Check("pick", "ok", f"{picked} on {device}, set by SOTTO_COMPUTE_TYPE")
    is_best = picked == ladder[0]
    return Check(
        "pick", "ok" if is_best else "note", f"{picked} on {device}: the first of {', '.join(ladder)} that works"
    )


def advice(device: str, settings: Settings) -> str:
    """Return what to try if no compute type works; empty if nothing is left."""
    if settings.compute_type != "auto":
        return "set SOTTO_COMPUTE_TYPE=auto"
    return "set SOTTO_DEVICE=cpu" if device != "cpu" else ""


def loader(settings: Settings, folder: Path, device: str, compute_type: str) -> WhisperLoader:
    return WhisperLoader(folder, replace(settings.model_options(device), compute_type=compute_type))


def decode(loader: WhisperLoader, ask: Ask) -> Trial:
    """Decode the bundled recording with the bundled model, whose output is known."""
    answer = ask("decode", json.dumps(asdict(loader), default=str))
    error = answer.get("error", "")
    if not error and answer["text"] != SAMPLE_TEXT:
        error = f"the transcript is {answer['text'][:100]!r} instead of {SAMPLE_TEXT!r}"
    speed = 0.0 if error else round(answer["audio_s"] / answer["took_s"], 1)
    return Trial(loader.options.device, loader.options.compute_type, speed, error)


def load(settings: Settings, folder: Path, device: str, ask: Ask) -> Check:
    """Load the model to be served, as the server would."""
    asked = loader(settings, folder, device, settings.compute_type)
    answer = ask("decode", json.dumps(asdict(asked), default=str))
    if error := answer.get("error"):
        return Check("load", "problem", error)
    speed = answer["audio_s"] / answer["took_s"]
    return Check("load", "ok", f"{folder.name} in {answer['compute_type']}: {real_time(speed)}")


def real_time(speed: float) -> str:
    """Return a speed for people. A slow or busy machine is at 0.4x, not at 0x."""
    return f"{speed:.{1 if speed < SHOWN_WHOLE else 0}f}x real time"


def codecs(answer: Answer) -> Check:
    if error := answer.get("error"):
        text = f"FFmpeg (av) can't read the bundled recording: {error}"
        return Check("codecs", "problem", text, "reinstall Sotto with the versions in requirements.lock")
    reads = f"FFmpeg reads {', '.join(answer['reads'])} and more"
    if missing := answer["lacks"]:
        return Check("codecs", "note", f"{reads}, but not {', '.join(missing)}", "install av from a wheel")
    return Check("codecs", "ok", reads)


def media(settings: Settings) -> Check:
    """Decode the bundled recording as the server decodes an upload: in a confined process, from disk."""
    try:
        from server.audio.media_decoder import open_media

        with closing(open_media(settings)) as media, data_path(SAMPLE).open("rb") as file:
            media.wait_until_ready()
            source = UploadFd(file.fileno(), os.fstat(file.fileno()).st_size, SAMPLE)
            recording = media.open(source, VadOptions(), on_window=lambda _: None)
            with closing(recording):
                duration_s = recording.finished.result(MEDIA_S)
    except Exception as error:  # failed imports and processes become lines of the report
        return Check("media", "problem", f"recordings can't be decoded: {error or type(error).__name__}")
    return Check("media", "ok", f"decoded a recording of {duration_s:.1f} s in a separate process")


def held(ask: Ask) -> list[Check]:
    """Try to break out of a process that is confined as those that decode uploads are. Linux only."""
    if sys.platform != "linux":
        return []
    answer = ask("sandbox")
    if error := answer.get("error"):
        return [Check("sandbox", "problem", f"a process can't be confined: {error}")]
    if done := answer["done"]:
        text = f"a confined process could still {', '.join(done)}"
        return [Check("sandbox", "note", text, "see the line confinement")]
    return [Check("sandbox", "ok", f"a confined process was refused to {', '.join(answer['refused'])}")]


def gpu(answer: Answer, settings: Settings) -> list[Check]:
    """Check the driver, the GPUs that CTranslate2 sees, and that cuBLAS is there."""
    if error := answer.get("error"):
        return [Check("gpu", "problem", f"CTranslate2 can't be loaded: {error}", "reinstall Sotto")]
    from_driver = gpus_of_driver()
    gpus = "; ".join(from_driver) or "the driver reports no GPU"
    if not answer["count"]:
        if from_driver:
            advice = "use driver 525 or later and CTranslate2's x86-64 wheel, and check CUDA_VISIBLE_DEVICES"
            return [Check("gpu", "note", f"{gpus}; CTranslate2 finds none", advice)]
        return [Check("gpu", "ok", "none")]
    checks = [Check("gpu", "ok", f"{gpus}; CTranslate2 finds {answer['count']}")]
    if answer["cublas"]:
        return [*checks, Check("cublas", "ok", "found")]
    used = "the CPU is used instead" if settings.device in ("auto", "cpu") else "nothing can run on the GPU"
    return [*checks, Check("cublas", "note", f"cuBLAS 12 not found: {used}", f"run {answer['advice']}")]


def gpus_of_driver() -> list[str]:
    """Return a line for each GPU: name, memory, free memory, driver. Empty without NVIDIA's tool."""
    if not shutil.which(SMI[0]):
        return []
    try:
        ran = subprocess.run(SMI, capture_output=True, text=True, timeout=SMI_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return [f"{SMI[0]} fails: {error}"]
    return [line.strip() for line in ran.stdout.splitlines() if line.strip()]
