import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.openapi.document import describe
from server.api.openapi.parameters import PARAMETERS
from server.settings import Settings
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model

VOID = {"meta", "br"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    served = served_model(FakeEngine(), ("demo",), ("en",))
    with TestClient(
        create_app(Settings(api_keys=(SecretStr("a-key"),)), registry_of(served), make_media())
    ) as client:
        yield client


class Page(HTMLParser):
    """What a page's markup holds; fails where elements don't nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name in {"href", "src"} and value]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_page_and_document_need_no_key(client: TestClient) -> None:
    assert client.get("/docs").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/openapi.json").json() == describe()
    assert client.get("/v1/models").status_code == 401


def test_the_page_needs_no_other_host_and_runs_no_script(client: TestClient) -> None:
    html = client.get("/docs").text
    page = Page(html)
    assert not page.tags & {"script", "iframe", "img", "link", "form", "base"}
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert "://" not in html
    assert "url(" not in html


def test_every_link_leads_somewhere(client: TestClient) -> None:
    page = Page(client.get("/docs").text)
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link[1:] in page.ids if link.startswith("#") else client.get(f"/{link}").status_code == 200


def test_the_policy_lets_only_the_page_s_own_style_in(client: TestClient) -> None:
    answer = client.get("/docs")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy


def test_the_page_shows_every_route_field_and_schema(client: TestClient) -> None:
    html = client.get("/docs").text
    document = describe()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f">{method.upper()} {path}</h2>" in html
    assert "A model id; slashes may be percent-encoded or not." in html
    for parameter in PARAMETERS:
        assert f"<code>{parameter.name}</code>" in html
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in html
