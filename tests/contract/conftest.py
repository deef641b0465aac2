"""The bundled model behind the application, in this process; no socket between."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.registry import load
from server.settings import Settings


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    settings = Settings(model="demo", threads=1, tune_allocator=False)
    with TestClient(create_app(settings, load(settings))) as client:
        yield client
