"""A Python package index on 127.0.0.1, in the simple form that pip reads, with wheels that a test packs."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

VERSION = "1.0.0"


@dataclass
class Index:
    """Wheels by the name of their package, and the paths that were requested."""

    wheels: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def add(self, package: str, files: Mapping[str, bytes]) -> str:
        """Publish a package that holds these files; returns the line of a requirements file that pins it."""
        self.wheels[package] = wheel(package, files)
        return f"{package}=={VERSION} --hash=sha256:{hashlib.sha256(self.wheels[package]).hexdigest()}"


def wheel(package: str, files: Mapping[str, bytes]) -> bytes:
    module = package.replace("-", "_")
    information = f"{module}-{VERSION}.dist-info"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{module}/data/{name}", content)
        archive.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {VERSION}\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return packed.getvalue()


class _Handler(BaseHTTPRequestHandler):
    index: Index

    def do_GET(self) -> None:
        self.index.requests.append(self.path)
        match self.path.strip("/").split("/"):
            case ["simple", package] if package in self.index.wheels:
                name = f"{package.replace('-', '_')}-{VERSION}-py3-none-any.whl"
                self._answer(200, f'<a href="/wheels/{package}/{name}">{name}</a>'.encode(), "text/html")
            case ["wheels", package, _]:
                self._answer(200, self.index.wheels[package], "application/zip")
            case _:
                self._answer(404, b"", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Index]:
    """Run an empty index until the block ends, as the only one that pip knows of; `folder` is for its settings."""
    index = Index()
    handler = type("Handler", (_Handler,), {"index": index})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        index.port = server.server_port
        settings = folder / "pip.conf"
        settings.write_text(f"[global]\nindex-url = http://127.0.0.1:{index.port}/simple/\n")
        for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
