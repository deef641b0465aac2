"""GET / and what it loads from /assets: the page for people, which lives on the public API alone.

Its files are read once, when the application is built; whatever else lies beside them can't be asked for.
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
    "cache-control": "no-cache",  # kept, and asked about: an upgrade shows at once, and the rest is a 304
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
    """Every file of the page by its address, and a recording to try it with; the page itself is at `/`."""
    files = {
        f"/assets/{path.relative_to(folder).as_posix()}": Asset(path.read_bytes(), TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES
    }
    sample = Asset(data_path(SAMPLE).read_bytes(), "audio/wav")
    return {"/": files.pop("/assets/index.html"), **files, SAMPLE_PATH: sample}


def page_router(assets: Assets) -> APIRouter:
    """A route for each of `assets`; none of them needs a key."""
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
