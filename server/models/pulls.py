"""Pulls while the server runs: each in a thread of its own, and shared by all clients that want the same model.

A pull ends when the last waiting client has left; the downloaded part is kept, and the next pull resumes it.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from pathlib import Path

from server.errors import Cancelled, PermissionDenied
from server.models.catalog import ModelReference, pullable
from server.models.catalog_file import Catalog
from server.models.progress import Progress, Report
from server.settings import Settings

TICK_S = 0.25

Fetch = Callable[[ModelReference, Report], object]
"""Fetches a model and reports its progress; an exception from the report aborts it."""

logger = logging.getLogger(__name__)


class Pulls:
    """The pulls in progress, by the folder that each fills. For one event loop."""

    def __init__(self, settings: Settings, catalog: Catalog, fetch: Fetch | None = None) -> None:
        """Without a `fetch`, pulls from the sources in the settings."""
        self._settings = settings
        self._catalog = catalog
        self._fetch = fetch or self._from_sources
        self._pulls: dict[Path, _Pull] = {}

    async def subscribe(self, name: str) -> "PullSubscription":
        """Join the pull of a model, or start it; the subscription has to be closed.

        Raises `ModelNotFound` for a name that is neither in the catalog nor a repository id, `PermissionDenied` if
        the model would have to be downloaded and downloads are off.
        """
        found = await asyncio.to_thread(pullable, name, self._settings.models_dir, self._catalog)
        if found.folder is None and self._settings.offline and not _has_local_source(found, self._settings):
            raise PermissionDenied(
                f"The model '{found.name}' is not on this machine, and SOTTO_OFFLINE forbids downloading it. "
                "Install it with `sotto models import`.",
                param="model",
            )
        self._pulls = {target: pull for target, pull in self._pulls.items() if not pull.is_over}
        if found.target not in self._pulls:
            self._pulls[found.target] = _Pull(found, self._fetch)
        return PullSubscription(found.name, self._pulls[found.target])

    def _from_sources(self, found: ModelReference, report: Report) -> None:
        from server.models import sources  # heavy, and rarely needed

        if found.folder is None:
            sources.fetch(sources.FetchOrder(found, self._settings, self._catalog, report=report))


def _has_local_source(found: ModelReference, settings: Settings) -> bool:
    """Whether SOTTO_OFFLINE leaves a source: a folder, or an exported file."""
    named = found.model is not None and found.model.bundle is not None
    return named or any(source not in ("index", "hub") for source in settings.model_sources)


class PullSubscription:
    """One client's subscription to the pull of the model `name`."""

    def __init__(self, name: str, pull: "_Pull") -> None:
        self.name = name
        self._pull = pull
        self._left = False
        pull.waiting += 1

    @property
    def latest(self) -> Progress | None:
        """The progress of the pull; None before the first report, and if nothing had to be pulled."""
        return self._pull.latest

    async def steps(self) -> AsyncGenerator[Progress | None]:
        """Yield `latest` periodically until the pull is done. Raises its error, and `Cancelled` after `close`."""
        ended = asyncio.wrap_future(self._pull.ended)
        try:
            while not (await asyncio.wait([ended], timeout=TICK_S))[0]:
                if self._left:
                    raise Cancelled("The client disconnected.")
                yield self.latest
            await ended
        finally:
            ended.cancel()

    def close(self) -> None:
        if not self._left:
            self._left = True
            self._pull.leave()

    cancel = close


class _Pull:
    """One pull, in a thread that doesn't delay the exit of the process: a hub may be silent for a minute."""

    def __init__(self, found: ModelReference, fetch: Fetch) -> None:
        self.latest: Progress | None = None
        self.waiting = 0
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()  # so that no waiting client can cancel it for the others
        self._abandoned = False
        threading.Thread(target=self._run, args=(found, fetch), daemon=True).start()

    @property
    def is_over(self) -> bool:
        return self._abandoned or self.ended.done()

    def leave(self) -> None:
        self.waiting -= 1
        self._abandoned = not self.waiting

    def _run(self, found: ModelReference, fetch: Fetch) -> None:
        try:
            fetch(found, self._on_progress)
        except Exception as error:
            if self._abandoned:
                logger.info("the pull of %s was cancelled: no client is waiting", found.name)
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def _on_progress(self, progress: Progress) -> None:
        if self._abandoned:
            raise Cancelled("No client is waiting for it any more.")
        self.latest = progress
