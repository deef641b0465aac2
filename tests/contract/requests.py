"""Requests in one line, for tests that look at answers."""

from collections.abc import Mapping, Sequence

import httpx2
from starlette.testclient import TestClient

from tests.support.bad_inputs import DATA

SPEECH = "en_00.wav"  # 2.444 s: `bad_inputs.SPEECH_TEXT`
GERMAN = "de_digits_0.wav"
TWO_PHRASES = "long_pause.flac"
SILENCE = "silence_10s.wav"
BOTH = {"timestamp_granularities[]": ["word", "segment"]}
VERBOSE = {"response_format": "verbose_json"}


def ask(
    client: TestClient,
    fields: Mapping[str, str | Sequence[str]] | None = None,
    *,
    audio: str | bytes = SPEECH,
    route: str = "transcriptions",
) -> httpx2.Response:
    """The answer for a recording of tests/data, or for a file's bytes; the model is `whisper-1` unless named."""
    content = (DATA / audio).read_bytes() if isinstance(audio, str) else audio
    return client.post(
        f"/v1/audio/{route}",
        data={"model": "whisper-1", **(fields or {})},
        files={"file": ("audio", content)},
    )
