"""Which key goes to which server, and a warning where others could read it."""

import logging
from collections.abc import Mapping

import pytest

from server.commands.api_key import ApiKey, is_readable_on_the_way, key_for
from server.commands.client import Client

OPENAI = {"OPENAI_API_KEY": "sk-real"}


@pytest.mark.parametrize("url", ["http://box:8000", "http://127.0.0.1:8000", "https://api.openai.com/v1"])
def test_openai_s_key_alone_goes_nowhere(url: str) -> None:
    assert key_for(url, OPENAI) == ApiKey()
    assert key_for(url, {**OPENAI, "OPENAI_BASE_URL": ""}) == ApiKey()


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://box:8000/v1", "http://box:8000"),
        ("http://BOX:8000", "http://box:8000/v1/"),
        ("https://speech.example.org/v1", "https://speech.example.org:443"),
        ("http://speech.example.org:80", "http://speech.example.org"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_openai_s_key_goes_to_the_server_that_its_base_url_names(base_url: str, url: str) -> None:
    assert key_for(url, {**OPENAI, "OPENAI_BASE_URL": base_url}) == ApiKey("sk-real", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://api.openai.com/v1", "http://api.openai.com/v1"),
        ("http://box:8000/v1", "http://box:8001"),
        ("http://box:8000/v1", "http://box"),
        ("http://box", "https://box"),
        ("http://box.example", "http://box.example.org"),
        ("http://box@other", "http://box"),
        ("http://box:many", "http://box:many"),
        ("box", "box"),
        ("http://[", "http://["),
    ],
)
def test_openai_s_key_goes_to_no_other_server(base_url: str, url: str) -> None:
    assert key_for(url, {**OPENAI, "OPENAI_BASE_URL": base_url}) == ApiKey()


def test_own_key_comes_first() -> None:
    environment = {**OPENAI, "OPENAI_BASE_URL": "http://box", "SOTTO_API_KEY": "ours"}
    for url in ("http://box", "http://elsewhere"):
        assert key_for(url, environment) == ApiKey("ours", "SOTTO_API_KEY")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://box:8000", True),
        ("http://192.168.1.7", True),
        ("https://box", False),
        ("http://localhost:8000", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
    ],
)
def test_plain_http_is_readable_except_on_this_machine(url: str, expected: bool) -> None:
    assert is_readable_on_the_way(url) is expected


@pytest.mark.parametrize(
    ("url", "environment", "warns"),
    [
        ("http://box:8000", {"SOTTO_API_KEY": "ours"}, True),
        ("https://box:8000", {"SOTTO_API_KEY": "ours"}, False),
        ("http://127.0.0.1:8000", {"SOTTO_API_KEY": "ours"}, False),
        ("http://box:8000", OPENAI, False),
        ("http://box:8000", {}, False),
    ],
)
@pytest.mark.usefixtures("no_settings")
def test_client_warns_where_its_key_can_be_read(
    url: str,
    environment: Mapping[str, str],
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Client(url)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["unencrypted" in message for message in messages] == [True] * warns
    assert "ours" not in caplog.text
