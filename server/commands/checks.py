"""Checks of this machine and these settings: the server logs them when it starts, `sotto doctor` shows them.

Each check covers one thing and suggests a fix. They load no heavy library and make no connections.
"""

import difflib
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from server.errors import SottoError
from server.models import catalog
from server.models.catalog import ModelReference
from server.models.installed import default_name
from server.settings import MOST_REQUESTS, PREFIX, Settings
from server.system import sandbox
from server.system.addresses import is_loopback
from server.system.machine import CPUINFO, filesystem, has_avx512, memory, open_files, usable_cpus
from server.system.sizes import in_words

MEMORY_FILESYSTEMS = ("tmpfs", "ramfs")
LEAST_BYTES = 1 << 30  # of memory: the bundled model takes a third of it, all processes together
LEAST_DISK_BYTES = 1 << 30

FILES_PER_REQUEST = 4  # upload, decoded audio, the connection to a worker and a spare one
OWN_FILES = 100

LIBRARIES = ("ctranslate2", "faster-whisper", "av", "onnxruntime")

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of a check. A note is for information; a problem prevents the server from running."""

    name: str
    status: Status
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


def short(settings: Settings, environment: Mapping[str, str] = os.environ) -> list[Check]:
    """Run the checks that the server logs when it starts, in the order of the page."""
    return [
        cpu(),
        ram(),
        scratch(settings),
        files(settings),
        cages(),
        address(settings),
        keys(settings),
        *unknown_variables(environment),
    ]


def python() -> Check:
    where = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform(terse=True)}"
    return Check("python", "ok", f"{where}, {platform.machine()}")


def libraries() -> list[Check]:
    """Check which versions are installed; whether they can be loaded shows when they are used."""
    return [_library(name) for name in LIBRARIES]


def cpu() -> Check:
    counted = f"{usable_cpus()} of {os.cpu_count()} CPUs by affinity and quota"
    return Check("cpu", "ok", f"{counted}, {_cpu_name()}{', AVX-512' if has_avx512() else ''}")


def ram() -> Check:
    found = memory()
    if found is None:
        return Check("memory", "ok", "unknown on this system")
    text = f"{in_words(found.free, 'GiB')} free of {in_words(found.allowed, 'GiB')} available to this process"
    if found.free < LEAST_BYTES:
        return Check("memory", "note", text, "add memory: the system may kill processes that need more")
    return Check("memory", "ok", text)


def scratch(settings: Settings) -> Check:
    """Check the folder of uploads and decoded audio."""
    try:
        folder = Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check(
            "temp", "problem", f"can't create temporary files: {error}", "set TMPDIR to a folder on a disk"
        )
    text = f"{in_words(free, 'GiB')} free in {folder} for uploads and decoded audio"
    if (asked := os.environ.get("TMPDIR")) and Path(asked) != folder:
        return Check("temp", "note", text, f"TMPDIR is {asked}, which isn't writable")
    if (kind := filesystem(folder)) in MEMORY_FILESYSTEMS:
        return Check("temp", "note", f"{text}, which is in memory ({kind})", "set TMPDIR to a folder on a disk")
    most = settings.uploads_bytes + settings.spool_bytes
    if free < most and settings.model_fields_set & {"uploads_mb", "spool_mb"}:
        return Check(
            "temp", "note", text, f"SOTTO_UPLOADS_MB and SOTTO_SPOOL_MB allow up to {in_words(most, 'GiB')}"
        )
    if free < LEAST_DISK_BYTES:
        return Check(
            "temp", "note", text, "free some space, or set TMPDIR to a larger disk: an hour of audio takes 115 MB"
        )
    return Check("temp", "ok", text)


def files(settings: Settings) -> Check:
    """Check that the limit of open files is enough for all connections and requests."""
    requests, most = settings.max_requests or MOST_REQUESTS, open_files()
    text = f"{most:g} open files allowed"
    load = f"{settings.max_connections} connections, {requests} requests"
    if most < settings.max_connections + FILES_PER_REQUEST * requests + OWN_FILES:
        cure = "raise the limit (ulimit -Hn), or lower SOTTO_MAX_CONNECTIONS"
        return Check("files", "note", f"{text} (too few for {load})", cure)
    return Check("files", "ok", f"{text} (enough for {load})")


def cages() -> Check:
    """Check that a process compromised by a malicious file is contained."""
    if sys.platform != "linux":
        text = "upload decoding can't be sandboxed on this system: a file that crashes it ends the server"
        return Check("confinement", "note", text, "accept files only from people you trust")
    if version := sandbox.landlock_version():
        return Check("confinement", "ok", f"upload decoding is sandboxed (rlimits, Landlock {version})")
    text = "upload decoding is limited by rlimits only; without Landlock it can reach files and network"
    return Check("confinement", "note", text, "use Linux 5.13 or later with Landlock enabled")


def address(settings: Settings) -> Check:
    """Check that the server can listen on its address, before a model is loaded in vain."""
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        choice = "choose another address with --host or SOTTO_HOST, another port with --port or SOTTO_PORT (0: any)"
        return Check("address", "problem", f"can't listen on {host} port {port}: {error.strerror}", choice)
    return Check("address", "ok", f"{host} port {port or '0 (any)'} is free")


def keys(settings: Settings) -> Check:
    """Check that a server without keys can't be reached from other machines."""
    admin = f", and {len(settings.admin_keys)} for admins" if settings.admin_keys else ""
    if settings.api_keys:
        return Check("keys", "ok", f"{len(settings.api_keys)} set{admin}; requests without a key are rejected")
    if is_loopback(settings.host):
        return Check("keys", "ok", f"none set{admin}; the server is reachable from this machine only")
    return Check(
        "keys",
        "note",
        f"listening on {settings.host} without API keys: anyone who can reach this address can use the server",
        "create a key (openssl rand -hex 24), put it in SOTTO_API_KEYS, send it as 'Authorization: Bearer <key>'",
    )


def unknown_variables(environment: Mapping[str, str]) -> list[Check]:
    """Check for variables with the prefix of settings that match none."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {f"{PREFIX}CONFIG"}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    return [Check("settings", "note", f"there is no setting {name}", _suggestion(name, known)) for name in unknown]


def non_defaults(settings: Settings, environment: Mapping[str, str] = os.environ) -> Check:
    """List the settings that differ from the defaults, and their sources; keys are not shown."""
    names = sorted(name for name in settings.model_fields_set if name in Settings.model_fields)
    lines = [_origin(name, settings, environment) for name in names]
    return Check("settings", "ok", ", ".join(lines) or "all defaults")


def models_dir(settings: Settings) -> Check:
    """Check the folder of pulled models."""
    folder = settings.models_dir
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    text = f"{in_words(shutil.disk_usage(there).free, 'GiB')} free for models in {folder}"
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Check("models", "note", f"{text}, which isn't writable", "set SOTTO_MODELS_DIR to a writable folder")
    return Check("models", "ok", text)


def model(settings: Settings) -> tuple[Check, ModelReference | None]:
    """Check that the default model is installed, and return what was found."""
    try:
        known_models = catalog.of(settings)
        found = catalog.resolve(default_name(settings, known_models), settings.models_dir, known_models)
    except SottoError as error:
        return Check("model", "problem", error.message), None
    if found.folder and found.model and found.model.demo:
        text = f"{found.name} only knows digits and a few sentences"
        return Check("model", "note", text, "for real speech: sotto models pull base"), found
    if found.folder:
        return Check("model", "ok", f"{found.name} is installed in {found.folder}"), found
    lacks = f"{found.name} is not installed in {found.target}"
    if settings.offline:
        cure = f"place the files of {found.repository} there, or set SOTTO_OFFLINE=0 to download them"
        return Check("model", "problem", f"{lacks}, and SOTTO_OFFLINE forbids downloading it", cure), found
    text = f"{lacks}: the first start downloads it"
    return Check("model", "note", text, "it needs network access and takes minutes"), found


def _library(name: str) -> Check:
    try:
        return Check("libraries", "ok", f"{name} {version(name)}")
    except PackageNotFoundError:
        return Check("libraries", "problem", f"{name} is not installed", "reinstall Sotto with its dependencies")


def _origin(name: str, settings: Settings, environment: Mapping[str, str]) -> str:
    variable = f"{PREFIX}{name.upper()}"
    value = "(not shown)" if name.endswith("_keys") else getattr(settings, name)
    if environment.get(variable):
        return f"{variable}={value}"
    file = environment.get(f"{PREFIX}CONFIG")
    return f"{variable}={value} (from {f'{file} or ' if file else ''}the command line)"


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else ""


def _cpu_name() -> str:
    try:
        rows = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        return next(value.strip() for name, _, value in rows if name.strip() == "model name")
    except (OSError, StopIteration):
        return platform.machine()
