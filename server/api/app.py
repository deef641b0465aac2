"""The application: every route behind the gate, built once, without globals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from server.api.errors import add_handlers
from server.api.gate.admission import Admission, AdmissionLimits
from server.api.gate.gate import Gate
from server.api.openapi.document import DESCRIBED, describe
from server.api.paths import OPEN_PATHS
from server.api.routes import docs, render
from server.api.routes.web_page import page_router, read_assets
from server.api.tracing import TELEMETRY, Named
from server.audio.media_decoder import MediaDecoder
from server.models import catalog
from server.models.pulls import Pulls
from server.monitoring.memory import MemoryReader
from server.monitoring.nvml import Nvml
from server.monitoring.prometheus import Metrics
from server.monitoring.request_metrics import RequestMetrics
from server.pool.registry import Registry
from server.settings import Settings
from server.system.machine import usable_cpus
from server.transcription.pipeline import Pipeline


def create_app(settings: Settings, registry: Registry, media: MediaDecoder) -> Gate:
    """Return the ASGI application over `media` and a `registry`, which it closes on shutdown."""

    known_models = catalog.of(settings)
    pulls = Pulls(settings, known_models)
    assets = read_assets() if settings.page else {}
    requests = RequestMetrics()
    admission = Admission(AdmissionLimits.of(settings, cpus=_cpus(registry)), spooled=lambda: media.spooled_bytes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        metrics = Metrics(registry.stats, admission.load, requests, media.stats, registry.states)
        pipeline = Pipeline(media, registry, max_windows=settings.max_windows)
        watching = asyncio.create_task(registry.watch())
        try:
            yield {
                "settings": settings,
                "registry": registry,
                "media": media,
                "pipeline": pipeline,
                "catalog": known_models,
                "pulls": pulls,
                "metrics": metrics,
                "memory_reader": MemoryReader(Nvml()),
                "renderer": render.Renderer(settings),
            }
        finally:
            watching.cancel()
            await asyncio.to_thread(registry.close)

    # FastAPI's own page loads its script from another host; redirects between slashes would drop request bodies.
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False, telemetry=TELEMETRY)
    app.add_middleware(Named)
    document = describe()
    app.openapi = lambda: document  # type: ignore[method-assign]  # how FastAPI expects it to be replaced
    add_handlers(app)
    for module in (*DESCRIBED, docs):
        app.include_router(module.router)
    app.include_router(page_router(assets))
    return Gate(app, settings, admission, requests, open_paths=OPEN_PATHS | assets.keys())


def _cpus(registry: Registry) -> int | None:
    """The number of CPUs that do the work; None on a GPU."""
    on_gpu = any(stats.device.startswith("cuda") for stats in registry.stats().values())
    return None if on_gpu else usable_cpus()
