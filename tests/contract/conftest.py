"""The bundled model behind the application, in this process; no socket between."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.pool.registry import load
from server.settings import Settings
from tests.support.fakes import make_media


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    settings = Settings(model="demo", threads=1, tune_allocator=False)
    with closing(make_media()) as media, TestClient(create_app(settings, load(settings), media)) as client:
        yield client
