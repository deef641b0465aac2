import pytest

from server.commands.serve import holds_secrets
from server.settings import Settings

pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.mark.parametrize(
    ("settings", "environment", "secret"),
    [
        ({}, {"HOME": "/root", "HF_TOKEN": ""}, False),
        ({"api_keys": "a"}, {}, True),
        ({"admin_keys": "a"}, {}, True),
        ({"metrics_key": "a"}, {}, True),
        ({}, {"HF_TOKEN": "hf_x"}, True),
    ],
)
def test_keys_and_tokens_are_secrets(settings: dict[str, str], environment: dict[str, str], secret: bool) -> None:
    assert holds_secrets(Settings.model_validate(settings), environment) is secret
