"""Where nobody speaks: 200 and no text, whatever the sound, the container, the route and the format."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from server.options import RESPONSE_FORMATS
from tests.support.bad_inputs import encode
from tests.support.serving import REQUEST_S, Running
from tests.support.sounds import SOUNDS

CONTAINERS = {
    "wav": ("pcm_s16le", 16_000),
    "mp3": ("libmp3lame", 44_100),
    "ogg": ("libopus", 48_000),
    "webm": ("libopus", 48_000),
    "flac": ("flac", 44_100),
    "ipod": ("aac", 44_100),  # m4a
}
NOTHING = {"text": "\n", "srt": "\n", "vtt": "WEBVTT\n\n"}


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=REQUEST_S, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("route", ["transcriptions", "translations"])
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("sound", SOUNDS)
def test_no_words_are_invented(client: httpx2.Client, sound: str, container: str, route: str) -> None:
    codec, rate = CONTAINERS[container]
    upload = encode(SOUNDS[sound](), container, codec, rate=rate)
    for response_format in RESPONSE_FORMATS:
        answer = client.post(
            f"/v1/audio/{route}",
            data={"model": "whisper-1", "response_format": response_format},
            files={"file": upload},
        )
        assert answer.status_code == 200, answer.text
        assert words_of(answer) == NOTHING.get(response_format, ""), response_format


def words_of(answer: httpx2.Response) -> str:
    """The text, of whatever format; segments there must be none."""
    if answer.headers["content-type"] != "application/json":
        return answer.text
    body: dict[str, Any] = answer.json()
    assert not body.get("segments")
    text: str = body["text"]
    return text
