import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from server.api.app import create_app
from server.api.routes.web_page import SAMPLE_PATH, WEB, read_assets
from server.models.catalog import SAMPLE, data_path
from server.settings import Settings
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model

KEY = "a-key"
IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?["'](\.[^"']+)["']""", re.MULTILINE)


def client_of(*, page: bool) -> TestClient:
    served = served_model(FakeEngine(), ("demo",), ("en",))
    return TestClient(
        create_app(Settings(api_keys=(SecretStr(KEY),), page=page), registry_of(served), make_media()),
        headers={"host": "127.0.0.1"},
    )


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of(page=True) as client:
        yield client


def test_page_and_its_files_need_no_key(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for link in re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text):
        assert client.get(f"/{link}").status_code == 200
    assert client.get("/v1/models").status_code == 401


def test_the_policy_names_no_other_host_and_allows_nothing_inline(client: TestClient) -> None:
    for path in ("/", "/assets/app.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "://" not in policy


def test_assets_have_content_types_that_are_not_sniffed(client: TestClient) -> None:
    assert client.get("/assets/app.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/assets/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert client.get("/assets/app.js").headers["x-content-type-options"] == "nosniff"


def test_a_sample_is_served_as_it_is_without_a_key(client: TestClient) -> None:
    answer = client.get(SAMPLE_PATH)
    assert answer.headers["content-type"] == "audio/wav"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.content == data_path(SAMPLE).read_bytes()


def test_cached_assets_are_not_sent_again(client: TestClient) -> None:
    first = client.get("/assets/app.js")
    again = client.get("/assets/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


def test_head_asks_for_the_page_too(client: TestClient) -> None:
    assert client.head("/").status_code == 200


@pytest.mark.parametrize(
    "path", ["/assets/../settings.py", "/assets/%2e%2e/settings.py", "/assets/", "/index.html"]
)
def test_other_paths_are_not_found(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"authorization": f"Bearer {KEY}"}).status_code == 404


def test_the_page_can_be_turned_off() -> None:
    with client_of(page=False) as client:
        for path in ("/", "/assets/app.js", SAMPLE_PATH):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"authorization": f"Bearer {KEY}"}).status_code == 404


def test_files_name_no_other_host() -> None:
    texts = {path: asset for path, asset in read_assets().items() if asset.content_type != "audio/wav"}
    for path, asset in texts.items():
        text = asset.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path


def test_modules_import_what_is_there() -> None:
    scripts = list(WEB.rglob("*.js"))
    assert scripts
    for script in scripts:
        for target in IMPORT.findall(script.read_text("utf-8")):
            assert (script.parent / target).is_file(), f"{script.name}: {target}"


def test_a_folder_is_served_as_it_was_when_the_server_started(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "notes.txt").write_text("not for the page")
    assert list(read_assets(tmp_path)) == ["/", SAMPLE_PATH]
