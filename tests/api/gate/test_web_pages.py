from collections.abc import Mapping

import httpx2
import pytest
from starlette.testclient import TestClient

from server.api.app import create_app
from server.settings import Settings
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model

KEY = "a-key-0123456789abcdefghijkl"
OBSIDIAN = "app://obsidian.md"
EVIL = "https://evil.example"
OWN = "127.0.0.1:8000"

pytestmark = pytest.mark.usefixtures("no_settings")


def ask(
    headers: Mapping[str, str], *, url: str = f"http://{OWN}/v1/models", method: str = "GET", **settings: object
) -> httpx2.Response:
    registry = registry_of(served_model(FakeEngine(), ("demo",), ("en",)))
    with TestClient(create_app(Settings.model_validate(settings), registry, make_media())) as client:
        return client.request(method, url, headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": ""},
        {"origin": f"http://{OWN}0"},
        {"origin": f"ftp://{OWN}"},
        {"origin": EVIL, "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/docs", "/", "/v1/nowhere"])
def test_without_keys_pages_of_other_sites_are_rejected(headers: dict[str, str], path: str) -> None:
    answer = ask(headers, url=f"http://{OWN}{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert "access-control-allow-origin" not in answer.headers


def test_a_form_that_another_page_sends_is_rejected() -> None:
    headers = {"origin": EVIL, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(headers, method="POST", url=f"http://{OWN}/v1/audio/transcriptions").status_code == 403
    assert ask({**headers, "access-control-request-method": "POST"}, method="OPTIONS").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, OpenAI's clients
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # a link
    ],
)
def test_programs_links_and_the_own_page_are_served(headers: dict[str, str]) -> None:
    assert ask(headers).status_code == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_own_page_may_send(scheme: str) -> None:
    answer = ask({"origin": f"{scheme}://{OWN}", "sec-fetch-site": "same-origin"})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_may_come_by_any_name(path: str) -> None:
    assert ask({"host": "node-7.cluster"}, url=f"http://{OWN}{path}").status_code == 200


def test_pages_that_are_named_may_use_it() -> None:
    for origins in (OBSIDIAN, f"https://one.example, {OBSIDIAN}", "*"):
        answer = ask({"origin": OBSIDIAN, "sec-fetch-site": "cross-site"}, cors_origins=origins)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] in (OBSIDIAN, "*")
    assert ask({"origin": EVIL}, cors_origins=OBSIDIAN).status_code == 403


def test_with_keys_every_page_may_ask_for_what_it_has_a_key_for() -> None:
    headers = {"origin": EVIL, "sec-fetch-site": "cross-site", "host": "evil.example"}
    assert ask(headers, api_keys=KEY).status_code == 401
    answer = ask({**headers, "authorization": f"Bearer {KEY}"}, api_keys=KEY)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "192.168.1.9", "[fe80::1]"]
)
def test_on_loopback_another_name_is_rejected(host: str) -> None:
    answer = ask({"host": host, "origin": f"http://{host}"})
    assert answer.status_code == 403
    assert "SOTTO_ALLOWED_HOSTS" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "localhost.", "127.0.0.1:1", "127.1.2.3", "[::1]:8000"]
)
def test_on_loopback_its_own_names_are_served(host: str) -> None:
    assert ask({"host": host}).status_code == 200


def test_a_name_that_is_allowed_is_served() -> None:
    for allowed in ("speech.example", "other.example, Speech.Example", "*"):
        assert ask({"host": "speech.example:443"}, allowed_hosts=allowed).status_code == 200
    assert ask({"host": "evil.example"}, allowed_hosts="speech.example").status_code == 403


def test_where_it_listens_for_others_their_names_are_not_checked() -> None:
    for host in ("192.168.1.9", "speech.lan"):
        assert ask({"host": "speech.lan"}, host=host).status_code == 200
        assert ask({"host": "speech.lan", "origin": EVIL}, host=host).status_code == 403
