import os
import re
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from server.engine import file_access
from server.engine.file_access import engine_access
from server.engine.supervisor import SupervisedEngine
from server.errors import ModelUnavailable
from server.system.landlock import landlock_version
from server.system.sandbox import READ_ANY_FILE
from tests.support.hosted import QUICK
from tests.support.prying_loader import PryingLoader
from tests.support.serving import Running

linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
OWN = {"its model", "a library"}
FORBIDDEN = {"read", "list", "write", "write its model", "remove", "start"}


def pried(tmp_path: Path, *, confined: bool) -> set[str]:
    """What a model that takes its engine's process over can do."""
    model, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    for folder in (model, elsewhere):
        folder.mkdir()
    (model / "model.bin").write_bytes(b"weights")
    (elsewhere / "secret").write_bytes(b"secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loader = PryingLoader(model, elsewhere / "secret", listener.getsockname()[1], os.getpid())
        engine = SupervisedEngine(loader, "prying", patience=QUICK, confined_to=model if confined else None)
        with closing(engine), pytest.raises(ModelUnavailable) as caught:
            engine.facts()
    return set(str(caught.value).removeprefix("done: ").split(", "))


@linux
def test_a_model_that_takes_its_process_over_reaches_nothing_else(tmp_path: Path) -> None:
    version = landlock_version()
    forbidden = FORBIDDEN if version else set()
    forbidden |= {"environment"} if version else set()
    forbidden |= {"connect"} if version >= 4 else set()
    forbidden |= {"signal"} if version >= 6 else set()
    done = pried(tmp_path, confined=True)
    assert done >= OWN
    assert not done & forbidden


@linux
def test_without_confinement_it_would(tmp_path: Path) -> None:
    assert pried(tmp_path, confined=False) >= OWN | FORBIDDEN | {"connect", "signal"}


@pytest.mark.skipif(not landlock_version(), reason="no Landlock here")
def test_the_engines_of_a_server_are_confined(server: Running) -> None:
    for pid in server.engines():
        status = Path(f"/proc/{pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        (held,) = re.findall(r"CapEff:\t(\w+)", status)
        assert int(held, 16) & ~READ_ANY_FILE == 0


def test_links_of_a_model_are_followed(tmp_path: Path) -> None:
    blob, snapshot = tmp_path / "blobs" / "1234", tmp_path / "snapshot"
    for folder in (blob.parent, snapshot):
        folder.mkdir()
    blob.touch()
    (snapshot / "model.bin").symlink_to("../blobs/1234")
    assert {str(blob), str(snapshot)} <= set(engine_access(snapshot).reads)


def test_links_of_a_model_lead_to_no_other_files_and_no_folders(tmp_path: Path) -> None:
    secrets, folder = tmp_path / "secrets", tmp_path / "model"
    for each in (secrets, folder):
        each.mkdir()
    (secrets / "key").touch()
    for name, target in (("notes", secrets / "key"), ("model.bin", secrets), ("vocabulary.txt", tmp_path)):
        (folder / name).symlink_to(target)
    reads = engine_access(folder).reads
    assert str(folder) in reads
    assert not [path for path in reads if path.startswith(str(secrets)) or path == str(tmp_path)]


def test_neither_the_root_nor_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/", str(tmp_path / "missing"), str(tmp_path)])
    reads = engine_access(tmp_path / "gone", environment={"LD_LIBRARY_PATH": f":/:{tmp_path}"}).reads
    assert str(tmp_path) in reads
    assert not [path for path in reads if path == "/" or not os.path.exists(path)]


def test_no_folder_of_users_or_of_secrets_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [os.__file__])
    for prefix in ("prefix", "base_prefix"):
        monkeypatch.setattr(sys, prefix, "/usr")
    access = engine_access(tmp_path, environment={"HOME": str(tmp_path / "home")})
    named = {*access.reads, *access.devices, *access.changes}
    assert not named & {"/etc", "/home", "/root", "/run", "/var", "/dev", "/opt", str(tmp_path / "home")}


def test_where_there_is_a_gpu_its_devices_and_caches_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "sda"):
        (tmp_path / name).touch()
    monkeypatch.setattr(file_access, "GPUS", [f"{tmp_path}/nvidia*"])
    access = engine_access(tmp_path, environment={"HOME": str(tmp_path)})
    assert {str(tmp_path / name) for name in ("nvidia0", "nvidiactl", "nvidia-uvm")} <= set(access.devices)
    assert str(tmp_path / "sda") not in access.devices
    assert access.changes[0] == str(tmp_path / ".nv")
    assert (tmp_path / ".nv").is_dir()
    cache = str(tmp_path / "kernels")
    assert engine_access(tmp_path, environment={"CUDA_CACHE_PATH": cache}).changes[0] == cache


def test_devices_that_cuda_would_make_are_made_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, uvm = tmp_path / "nvidia-modprobe", tmp_path / "nvidia-uvm"
    tool.write_text(f'#!/bin/sh\necho "$@" > {uvm}\n')
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(file_access, "UVM", uvm)
    monkeypatch.setattr(file_access, "GPUS", [f"{tmp_path}/nvidia-uvm*"])
    assert not uvm.exists()
    engine_access(tmp_path, environment={})
    assert not uvm.exists()  # there is no driver
    monkeypatch.setattr(file_access, "DRIVER", tmp_path)
    assert str(uvm) in engine_access(tmp_path, environment={}).devices
    assert uvm.read_text() == "-u -c=0\n"
