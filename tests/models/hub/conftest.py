"""A stand-in for the hub on this machine, and the folder that a model is pulled into."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from server.models import hub, manifest
from server.models.catalog_file import REQUIRED
from tests.support.hub_standin import Hub, Repository, serve

NAME = "Systran/faster-whisper-tiny"


FILES = {
    "config.json": b'{"alignment_heads": []}',
    "model.bin": bytes(range(256)) * 1200,
    "tokenizer.json": b"{}" * 5000,
    "vocabulary.txt": b"a\nb\n",
}


OTHERS = {
    "README.md": b"# tiny",
    ".gitattributes": b"*.bin lfs",
    "onnx/config.json": b"{}",
    "vocabulary.x/../../../evil": b"!",
}


HALF = len(FILES["model.bin"]) // 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "RETRY_WAIT_S", 0.0)
    close_session()  # it keeps the proxies of the environment that it was made in
    yield
    close_session()


@pytest.fixture
def standin() -> Iterator[Hub]:
    with serve() as running:
        running.repositories[NAME] = Repository(FILES | OTHERS)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "Systran--faster-whisper-tiny"


def pull(standin: Hub, folder: Path, name: str = NAME, progress: io.StringIO | None = None) -> Path:
    return hub.pull(name, REQUIRED, folder, endpoint=standin.endpoint, progress=progress)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != manifest.NAME}
