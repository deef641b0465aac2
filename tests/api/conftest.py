"""The bundled model behind a real server, for all tests of the doors that don't need settings of their own."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.support.serving import Running, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def sdk(server: Running) -> Iterator[OpenAI]:
    with server.sdk() as client:
        yield client
