"""A model hub on 127.0.0.1 with the endpoints that huggingface_hub and our client call, and faults on demand.

Like the real one it keeps large files elsewhere: `resolve` answers a redirect to another host name, and only these
files have a sha256 in the listing. It offers no xet, so everything is plain HTTP.
"""

import hashlib
import json
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

HELD_S = 60.0


@dataclass
class Repository:
    """Files by name; those in `large` are stored as LFS objects. `older` has files of other revisions.
    `info_status` and `file_status` refuse."""

    files: dict[str, bytes]
    revision: str = "1" * 40
    large: tuple[str, ...] = ("model.bin",)
    info_status: int = 200
    file_status: int = 200
    error_code: str | None = None
    older: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def at(self, revision: str) -> dict[str, bytes]:
        """The files of a revision; raises KeyError for an unknown one."""
        return self.files if revision == self.revision else self.older[revision]

    def listing(self, name: str, revision: str | None = None, lies: Collection[str] = ()) -> bytes:
        revision = revision or self.revision
        siblings = [
            {"rfilename": file, **self._facts(file, content, file in lies)}
            for file, content in self.at(revision).items()
        ]
        return json.dumps({"id": name, "sha": revision, "siblings": siblings}).encode()

    def _facts(self, name: str, content: bytes, lie: bool) -> dict[str, object]:
        facts: dict[str, object] = {"size": len(content), "blobId": git_sha1(content)}
        if name in self.large:
            sha256 = "0" * 64 if lie else hashlib.sha256(content).hexdigest()
            facts["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        return facts


@dataclass
class Request:
    path: str
    headers: Message


@dataclass
class Hub:
    """What it serves, what it was asked, and the faults: `cuts` are the bytes after which the next answers for a
    file break off, `spoiled` files arrive with another last byte, `lies` are large files whose sum it tells wrong,
    `longer` how many bytes too many come of a file, `held` files stop halfway until theirs is set; `raw` answers
    everything."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    lies: set[str] = field(default_factory=set)
    longer: dict[str, int] = field(default_factory=dict)
    held: dict[str, threading.Event] = field(default_factory=dict)
    ranges: bool = True
    raw: bytes | None = None
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests_for(self, file: str) -> list[Request]:
        """The requests for a file's bytes, at the place that gives them."""
        return [request for request in self.requests if request.path.startswith("/store/") and file in request.path]


class _Server(ThreadingHTTPServer):
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.server.hub
        hub.requests.append(Request(self.path, self.headers))
        match path.strip("/").split("/"):
            case _ if hub.raw is not None:
                self._answer(200, hub.raw)
            case ["api", "models", owner, name]:
                self._listing(f"{owner}/{name}")
            case ["api", "models", owner, name, "revision", revision]:
                self._listing(f"{owner}/{name}", revision)
            case [owner, name, "resolve", revision, file]:
                self._resolve(f"{owner}/{name}", revision, file)
            case ["store", owner, name, revision, file]:
                self._content(hub.repositories[f"{owner}/{name}"].at(revision)[file], file)
            case _:
                self._answer(404)

    def _listing(self, name: str, revision: str | None = None) -> None:
        repository = self.server.hub.repositories.get(name) or Repository({}, info_status=404)
        if repository.info_status != 200:
            self._refuse(repository.info_status, repository.error_code)
        elif revision not in (None, repository.revision, *repository.older):
            self._refuse(404, "RevisionNotFound")
        else:
            self._answer(200, repository.listing(name, revision, self.server.hub.lies))

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.server.hub.repositories[name]
        if repository.file_status != 200:
            self._refuse(repository.file_status, repository.error_code)
        elif file not in repository.at(revision):
            self._refuse(404, "EntryNotFound")
        else:
            host = "localhost" if file in repository.large else "127.0.0.1"
            location = f"http://{host}:{self.server.hub.port}/store/{name}/{revision}/{file}"
            self._answer(302, headers={"Location": location, "X-Repo-Commit": revision})

    def _content(self, content: bytes, file: str) -> None:
        hub = self.server.hub
        if file in hub.spoiled:
            content = content[:-1] + bytes([content[-1] ^ 1])
        content += bytes(hub.longer.get(file, 0))
        wanted = self.headers.get("Range") if hub.ranges else None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        cuts = hub.cuts.get(file, [])
        self._answer(
            206 if wanted else 200,
            content[start:],
            {"ETag": f'"{git_sha1(content)}"', "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"},
            cut=cuts.pop(0) if cuts else None,
            held=hub.held.get(file),
            held_at=max(0, len(content) // 2 - start),
        )

    def _refuse(self, status: int, code: str | None) -> None:
        self._answer(status, b'{"error": "no"}', {"X-Error-Code": code} if code else {})

    def _answer(
        self,
        status: int,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        cut: int | None = None,
        held: threading.Event | None = None,
        held_at: int = 0,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # who is sent more than it asked for hangs up
            self.wfile.write(body[:held_at][:cut])
            if held:
                held.wait(HELD_S)
            self.wfile.write(body[held_at:cut])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The same, for what pulls in this process without naming a hub."""
    close_session()  # it keeps the proxies of the environment that it was made in
    with serve() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        yield hub
    close_session()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run an empty hub on a free port until the block ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = Hub(port=server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.hub
        finally:
            server.shutdown()
            thread.join()
