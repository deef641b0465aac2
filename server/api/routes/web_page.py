"""GET / and its files in /assets: the web page, which uses only the public API.

Its files are read once, when the application is built; no other file of the folder is served.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.models.catalog import SAMPLE, data_path

WEB = Path(__file__).parents[2] / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SAMPLE_PATH = "/assets/sample.wav"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "cache-control": "no-cache",  # cached but revalidated: an upgrade shows at once, and an unchanged file is a 304
    "content-security-policy": POLICY,
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page as it is sent."""

    body: bytes
    content_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'


Assets = Mapping[str, Asset]


def read_assets(folder: Path = WEB) -> Assets:
    """Return every file of the page by its address, with the page itself at `/`, and a sample recording."""
    files = {
        f"/assets/{path.relative_to(folder).as_posix()}": Asset(path.read_bytes(), TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES
    }
    sample = Asset(data_path(SAMPLE).read_bytes(), "audio/wav")
    return {"/": files.pop("/assets/index.html"), **files, SAMPLE_PATH: sample}


def page_router(assets: Assets) -> APIRouter:
    """Return a router that serves each of `assets` without a key."""
    return APIRouter(
        routes=[Route(path, _sender(asset), include_in_schema=False) for path, asset in assets.items()]
    )


def _sender(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    headers = {**HEADERS, "content-type": asset.content_type, "etag": asset.etag}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, headers=headers)

    return send
