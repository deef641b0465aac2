from collections.abc import Iterator

import httpx2
import pytest
from pydantic import SecretStr, ValidationError
from starlette.testclient import TestClient

from server.api.app import create_app
from server.settings import Settings
from tests.support.bad_inputs import wav
from tests.support.fakes import FakeEngine, make_media
from tests.support.registries import registry_of, served_model
from tests.support.serving import TRANSCRIPTIONS
from tests.support.wire import content_type, field, file, form

KEY = "a-key-0123456789abcdefghijkl"
OBSIDIAN = "app://obsidian.md"
PAGE = "https://example.com"
FORM = form(field("model", "whisper-1"), file(wav()))
ASKED = "authorization, content-type, x-stainless-lang, x-stainless-retry-count"


def client_of(**settings: object) -> TestClient:
    registry = registry_of(served_model(FakeEngine(), ("demo",), ("en",)))
    return TestClient(create_app(Settings.model_validate(settings), registry, make_media()))


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with client_of(api_keys=[SecretStr(KEY)]) as client:
        yield client


def preflight(
    client: TestClient, origin: str = OBSIDIAN, path: str = TRANSCRIPTIONS, **more: str
) -> httpx2.Response:
    headers = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": ASKED}
    return client.options(path, headers={**headers, **more})


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, "/v1/models", "/openai/v1/audio/transcriptions", "/health"])
@pytest.mark.parametrize("origin", [OBSIDIAN, PAGE, "null", "http://localhost:3000"])
def test_a_preflight_needs_no_key_and_allows_what_was_asked_for(client: TestClient, origin: str, path: str) -> None:
    answer = preflight(client, origin, path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == "POST"
    assert answer.headers["access-control-allow-headers"] == ASKED
    assert int(answer.headers["access-control-max-age"]) >= 600
    assert "Access-Control-Request-Headers" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


def test_a_preflight_without_requested_headers_gets_none(client: TestClient) -> None:
    answer = client.options("/v1/models", headers={"origin": PAGE, "access-control-request-method": "GET"})
    assert answer.headers["access-control-allow-methods"] == "GET"
    assert "access-control-allow-headers" not in answer.headers


def test_options_without_a_preflight_s_headers_is_a_request_like_any_other(client: TestClient) -> None:
    assert client.options(TRANSCRIPTIONS, headers={"origin": PAGE}).status_code == 401
    authorized = {"origin": PAGE, "authorization": f"Bearer {KEY}"}
    assert client.options(TRANSCRIPTIONS, headers=authorized).status_code == 405


@pytest.mark.parametrize(
    ("path", "key", "body", "status"),
    [
        (TRANSCRIPTIONS, KEY, FORM, 200),
        (TRANSCRIPTIONS, KEY, b"", 400),
        (TRANSCRIPTIONS, "wrong", FORM, 401),
        ("/v1/nowhere", KEY, b"", 404),
        ("/v1/models", KEY, b"", 405),
    ],
)
def test_every_answer_may_be_read_by_the_page(
    client: TestClient, path: str, key: str, body: bytes, status: int
) -> None:
    headers = {"origin": PAGE, "authorization": f"Bearer {key}", "content-type": content_type()}
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-request-id", "retry-after", "x-should-retry", "openai-processing-ms", "x-sotto-model"} <= set(
        exposed
    )


def test_only_pages_that_are_named_may_read_where_some_are() -> None:
    with client_of(cors_origins=f"{OBSIDIAN}, http://localhost:3000") as client:
        named = client.get("/v1/models", headers={"origin": OBSIDIAN})
        assert named.headers["access-control-allow-origin"] == OBSIDIAN
        assert "access-control-expose-headers" in named.headers
        for other in (
            client.get("/v1/models", headers={"origin": PAGE}),
            client.get("/v1/models"),
            preflight(client, PAGE),
        ):
            assert "access-control-allow-origin" not in other.headers
            assert "Origin" in other.headers["vary"]
        assert "Origin" in named.headers["vary"]
        assert preflight(client).headers["access-control-allow-origin"] == OBSIDIAN


def test_none_leaves_browsers_to_their_own_rule() -> None:
    with client_of(cors_origins="none") as client:
        assert preflight(client).status_code == 405
        answer = client.get("/v1/models", headers={"origin": OBSIDIAN})
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({}, False),
        ({"api_keys": [SecretStr(KEY)]}, True),
        ({"cors_origins": OBSIDIAN}, True),
    ],
    ids=["any page", "any page with a key", "a page that is named"],
)
def test_local_network_is_opened_only_to_pages_that_are_known(settings: dict[str, object], allowed: bool) -> None:
    asking = {"access-control-request-private-network": "true"}
    with client_of(**settings) as client:
        answer = preflight(client, **asking)
        assert ("access-control-allow-private-network" in answer.headers) is allowed
        assert "access-control-allow-private-network" not in preflight(client).headers


@pytest.mark.parametrize(
    "origins", ["example.com", "https://example.com/page", "*,https://a.b", "https://a.b,", "off"]
)
def test_origins_that_no_browser_would_send_are_refused(origins: str) -> None:
    with pytest.raises(ValidationError):
        Settings(cors_origins=origins)
