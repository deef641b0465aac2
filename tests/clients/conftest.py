"""A server as an operator runs it, with keys and a model whose id has a slash, for clients of every make."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conftest import UNGUARDED
from tests.support.bad_inputs import DATA
from tests.support.missing_tools import skip_outside_ci
from tests.support.serving import Running, serving
from tests.support.wire import Connection, field, file, form

MODEL = "acme/demo"
KEY = "clients-key-0123456789abcdef"
MAX_REQUESTS, MAX_PER_CLIENT = 8, 4
BUSY_KEYS = tuple(f"busy-key-{number}-0123456789abcdefg" for number in range(MAX_REQUESTS))  # fewer leave room
NODE = Path(__file__).parent / "node"
INSTALL_S = 110.0
FORM = form(field("model", "whisper-1"), file((DATA / "silence_10s.wav").read_bytes()))


@pytest.fixture(scope="session")
def server(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = tmp_path_factory.mktemp("pulled")
    (models / MODEL.replace("/", "--")).symlink_to(demo_model)
    limits = {
        "max_upload_mb": 8,
        "max_requests_per_client": MAX_PER_CLIENT,
        "max_requests": MAX_REQUESTS,
    }
    keys = ",".join((KEY, *BUSY_KEYS))
    with serving(model=MODEL, models_dir=models, offline=1, api_keys=keys, **limits) as running:
        yield running


@contextmanager
def uploads_under_way(server: Running, *keys: str) -> Iterator[None]:
    """As many as each of these keys may have; they end without an answer."""
    with ExitStack() as stack:
        for key in keys * MAX_PER_CLIENT:
            connection = stack.enter_context(Connection(server.base_url))
            connection.send_head({"Content-Length": str(len(FORM)), "Authorization": f"Bearer {key}"})
            connection.send(FORM[:1000])
        yield


@pytest.fixture(scope="session")
def node() -> str:
    """The command, once the packages of the lock lie beside the scripts; skips where they can't be had."""
    command, npm = shutil.which("node"), shutil.which("npm")
    if not command or not npm:
        skip_outside_ci("node and npm are not installed")
    lock, installed = NODE / "package-lock.json", NODE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        try:
            subprocess.run(
                [npm, "ci"], cwd=NODE, env=UNGUARDED, capture_output=True, text=True, timeout=INSTALL_S, check=True
            )
        except subprocess.TimeoutExpired:
            skip_outside_ci(f"npm ci has not ended in {INSTALL_S:g} s")
        except subprocess.CalledProcessError as error:
            skip_outside_ci(f"npm ci failed: {error.stderr.strip()[:300]}")
    return command
