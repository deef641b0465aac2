"""`sotto serve`: the server's start and stop, in order."""

import asyncio
import logging
import math
import os
import shlex
import signal
import socket
from collections.abc import Mapping
from contextlib import closing
from types import FrameType
from typing import NoReturn

import uvicorn

from server import logs
from server.api.app import create_app
from server.api.h11_protocol import Protocol
from server.audio.media_decoder import MediaDecoder, open_media
from server.commands.checks import short
from server.models.catalog import SAMPLE, data_path
from server.pool.registry import Registry, load
from server.settings import Settings
from server.system.machine import allow_open_files
from server.system.sandbox import hide_memory

DEMO = "The demo model only knows a few words. For real speech: sotto models pull base"
TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
ANSWER_S = 5  # after the grace period, to send 503 to the remaining requests

logger = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn that prints an example once it is ready, and answers 503 after the grace period."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            host = self._settings.host
            logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
            print(f"Ready. Try:\n{example(self._settings, port)}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("shutting down; waiting up to %g s for running requests", self._settings.grace_seconds)
        cutting = asyncio.create_task(self._cut_short())
        await super().shutdown(sockets)
        cutting.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down on the first signal, exit at once on the second; children notice by themselves."""
        if self.should_exit:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    async def _cut_short(self) -> None:
        """After the grace period, end the remaining requests with a 503; uvicorn alone would not wait for them."""
        await asyncio.sleep(self._settings.grace_seconds)
        for task in self.server_state.tasks:
            task.cancel()


def serve(settings: Settings) -> int:
    """Load the model, listen until a signal arrives, finish running requests. Returns an exit status."""
    # Without a handler, PID 1 of a container ignores SIGTERM. Being stopped counts as success.
    signal.signal(signal.SIGTERM, _end)
    logs.set_up(settings.log_level, settings.log_format)
    if holds_secrets(settings, os.environ):
        hide_memory()
    check_environment(settings)
    allow_open_files()
    with (
        closing(open_media(settings)) as media,  # its processes start while the model is loaded
        closing(load(settings)) as registry,
    ):
        if registry.default.known.demo:
            logger.warning(DEMO)
        media.wait_until_ready()
        server = Server(_config(settings, registry, media), settings)
        server.run()
        return 0 if server.started else 1


def holds_secrets(settings: Settings, environment: Mapping[str, str]) -> bool:
    """Whether this process has keys or tokens that no other one should read."""
    return bool(settings.api_keys or settings.admin_keys or settings.metrics_key or environment.get(TOKEN))


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


def check_environment(settings: Settings) -> None:
    """Log the notes of the checks; raises OSError for a problem."""
    for check in short(settings):
        if check.status == "problem":
            raise OSError(str(check))
        if check.status == "note":
            logger.warning(check)


def example(settings: Settings, port: int) -> str:
    """Return a curl command to paste, for a recording that exists here."""
    key = '-H "Authorization: Bearer YOUR_KEY" ' if settings.api_keys else ""
    url = shlex.quote(f"{settings.url(port)}/v1/audio/transcriptions")
    file = shlex.quote(str(data_path(SAMPLE)))
    return f"curl {key}{url} -F model=whisper-1 -F file=@{file}"


def _config(settings: Settings, registry: Registry, media: MediaDecoder) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings, registry, media),
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the gate reads them, from SOTTO_TRUSTED_PROXIES only
        server_header=False,
        timeout_keep_alive=settings.idle_timeout_seconds,  # type: ignore[arg-type]  # any number will do
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds) + ANSWER_S,
    )
