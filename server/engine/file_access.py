"""The files that an engine's process may use: its model, Python and its libraries, the devices, their caches."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from glob import glob
from pathlib import Path

from server.system.landlock import FileAccess

LIBRARIES = "/usr /lib* /opt/*cuda* /nix/store /gnu/store /run/opengl-driver".split()
MODEL_FILES = ("config.json", "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.")
CONFIGURATION = "/etc/ld.so.* /etc/localtime /etc/ssl/openssl.cnf /etc/pki/tls/openssl.cnf".split()
KERNEL = "/proc /sys".split()
DEVICES = "/dev/null /dev/zero /dev/full /dev/random /dev/urandom".split()
# NVIDIA's: of its cards, of WSL, of Jetson.
GPUS = "/dev/nvidia* /dev/dri /dev/dxg /dev/nvmap /dev/nvhost* /dev/nvgpu* /dev/nvsciipc".split()
DRIVER = Path("/proc/driver/nvidia")
UVM = Path("/dev/nvidia-uvm")  # made by the first program that uses CUDA, through a tool that runs as root
MODPROBE, MODPROBE_S = ("nvidia-modprobe", "-u", "-c=0"), 10.0


def engine_access(*folders: Path, environment: Mapping[str, str] = os.environ) -> FileAccess:
    """What a process that runs the model in one of `folders` may use; of GPUs, those that are there now."""
    _make_devices()
    models = [path for folder in folders for path in _model_files(folder)]
    libraries = [*_globbed(LIBRARIES), *environment.get("LD_LIBRARY_PATH", "").split(":")]
    gpus = _globbed(GPUS)
    return FileAccess(
        reads=_existing(*models, *_python(), *libraries, *_globbed(CONFIGURATION), *KERNEL),
        devices=_existing(*DEVICES, *gpus),
        changes=_existing(*_gpu_caches(environment)) if gpus else (),
    )


def _model_files(folder: Path) -> list[str]:
    """The folder, and the files of a model that its links lead to, as in Hugging Face's cache; no other folder."""
    with suppress(OSError):
        links = (path for path in folder.iterdir() if path.is_symlink() and path.name.startswith(MODEL_FILES))
        return [str(folder), *(str(path.resolve()) for path in links if path.is_file())]
    return [str(folder)]


def _python() -> list[str]:
    """The interpreter, and every folder that it imports from."""
    return [sys.prefix, sys.base_prefix, *map(os.path.abspath, sys.path)]


def _gpu_caches(environment: Mapping[str, str]) -> list[str]:
    """The folders of compiled kernels, made if need be, and of the service by which processes share a GPU."""
    home = environment.get("HOME", "")
    cache = environment.get("CUDA_CACHE_PATH") or (home and f"{home}/.nv")
    if cache:
        with suppress(OSError):
            Path(cache).mkdir(parents=True, exist_ok=True)
    return [cache, environment.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps"]  # noqa: S108 - its default


def _make_devices() -> None:
    """Do what the confined process no longer can, and CUDA would: have the driver's tool load the rest of it."""
    if DRIVER.exists() and not UVM.exists() and shutil.which(MODPROBE[0]):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(MODPROBE, timeout=MODPROBE_S, capture_output=True, check=False)  # noqa: S603


def _globbed(patterns: Iterable[str]) -> list[str]:
    return [path for pattern in patterns for path in glob(pattern)]


def _existing(*paths: str) -> tuple[str, ...]:
    """Those of `paths` that there are, without the root: that would be everything."""
    return tuple(path for path in dict.fromkeys(paths) if path != "/" and os.path.exists(path))
