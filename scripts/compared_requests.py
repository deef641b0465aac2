"""The requests that `compare_servers` sends: what can be asked of a recording, and what is answered without one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.bad_inputs import BAD_INPUTS, DATA

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
GRANULARITIES = "timestamp_granularities[]"
SPEECH = "en_00.wav"

Fields = Mapping[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class Request:
    """`file` is a name and its bytes; `body` is sent as it is, in place of a form."""

    name: str
    path: str = TRANSCRIPTIONS
    method: str = "POST"
    fields: Fields = field(default_factory=dict)
    file: tuple[str, bytes] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


# What a recording is asked for

WORDS = ["segment", "word"]
ASKED: dict[str, Fields] = {
    "json": {},
    "text": {"response_format": "text"},
    "srt": {"response_format": "srt"},
    "vtt": {"response_format": "vtt"},
    "verbose_json": {"response_format": "verbose_json"},
    "words": {"response_format": "verbose_json", GRANULARITIES: "word"},
    "segments and words": {"response_format": "verbose_json", GRANULARITIES: WORDS},
    "words in segments": {"response_format": "verbose_json", GRANULARITIES: WORDS, "nested_words": "true"},
    "nested dialect": {"response_format": "verbose_json", "response_dialect": "nested"},
    "nested dialect, words": {
        "response_format": "verbose_json",
        "response_dialect": "nested",
        GRANULARITIES: "word",
    },
    "logprobs": {"include[]": "logprobs"},
    "tokens": {"model": "gpt-4o-transcribe"},
    "a cloud's id": {"model": "whisper-large-v3"},
    "languages found": {"model": "gpt-transcribe", "languages[]": ["en", "de"]},
    "shaped srt": {"response_format": "srt", "max_line_width": "32"},
    "shaped vtt": {
        "response_format": "vtt",
        "max_line_count": "1",
        "max_cue_seconds": "3",
        "min_cue_seconds": "0.5",
    },
    "stream": {"stream": "true"},
    "stream of logprobs": {"stream": "true", "include[]": "logprobs", "model": "gpt-4o-mini-transcribe"},
    "stream of segments": {"stream": "true", "stream_events[]": "segments", GRANULARITIES: "word"},
    "stream of nested segments": {
        "stream": "true",
        "stream_events[]": "segments",
        GRANULARITIES: "word",
        "response_dialect": "nested",
    },
}
DECODED: dict[str, Fields] = {
    "language": {"language": "german"},
    "language tag": {"language": "en-GB"},
    "prompt": {"prompt": "A note about numbers, times and places."},
    "long prompt": {"prompt": "A note about numbers, times and places. " * 400},
    "keywords": {"keywords[]": ["o'clock", "Kerstin"], "hotwords": "bathroom"},
    "temperature 0": {"temperature": "0"},
    "temperature 0.4": {"temperature": "0.4"},
    "greedy": {"beam_size": "1"},
    "everything is speech": {"vad_filter": "false"},
    "server_vad": {
        "chunking_strategy[type]": "server_vad",
        "chunking_strategy[threshold]": "0.3",
        "chunking_strategy[silence_duration_ms]": "800",
    },
    "conditioned": {"condition_on_previous_text": "true"},
    "multilingual": {"multilingual": "true"},
    "speakers": {"known_speaker_names[]": ["A", "B"]},
}
TRANSLATED: dict[str, Fields] = {
    "json": {},
    "verbose_json": {"response_format": "verbose_json", GRANULARITIES: WORDS, "language": "de"},
    "srt": {"response_format": "srt"},
    "stream": {"stream": "true"},
}
FEW = ("json", "segments and words", "srt", "stream of logprobs")  # between them every step of the model


def of_recording(path: Path, *, few: bool = False) -> Iterator[Request]:
    """Everything that a recording can be asked for; with `few` what costs the model least."""
    file = (path.name, path.read_bytes())
    for name, fields in ASKED.items():
        if not few or name in FEW:
            yield transcription(f"{path.name}: {name}", fields, file)
    if few:
        return
    for name, fields in DECODED.items():
        asked = {"response_format": "verbose_json", **fields}
        yield transcription(f"{path.name}: {name}", asked, file)
    for name, fields in TRANSLATED.items():
        yield transcription(f"{path.name}: translation, {name}", fields, file, path=TRANSLATIONS)


def transcription(
    name: str, fields: Fields, file: tuple[str, bytes] | None, *, path: str = TRANSCRIPTIONS
) -> Request:
    return Request(name, path, fields={"model": "whisper-1", **fields}, file=file)


# What is refused

REFUSED: dict[str, Fields] = {
    "no model": {"model": ""},
    "unknown model": {"model": "nonesuch"},
    "path as model": {"model": "../demo"},
    "unknown format": {"response_format": "xml"},
    "diarized_json": {"response_format": "diarized_json"},
    "temperature too high": {"temperature": "1.5"},
    "temperature is no number": {"temperature": "warm"},
    "unknown language": {"language": "klingon"},
    "both languages": {"language": "en", "languages[]": ["de"]},
    "unknown granularity": {GRANULARITIES: "letter"},
    "unknown include": {"include[]": "usage"},
    "unknown strategy": {"chunking_strategy": "guess"},
    "threshold too high": {"chunking_strategy": '{"type": "server_vad", "threshold": 2}'},
    "strategy is no JSON": {"chunking_strategy": '{"type": '},
    "stream is no flag": {"stream": "perhaps"},
    "unknown event": {"stream": "true", "stream_events[]": "words"},
    "unknown dialect": {"response_dialect": "swiss"},
    "no beam": {"beam_size": "0"},
    "too many beams": {"beam_size": "21"},
    "beams in words": {"beam_size": "five"},
    "lines of json": {"max_line_width": "32"},
    "lines of a stream": {"response_format": "srt", "max_line_count": "2", "stream": "true"},
    "shortest above longest": {"response_format": "srt", "min_cue_seconds": "5", "max_cue_seconds": "2"},
    "too many speakers": {"known_speaker_names[]": ["A", "B", "C", "D", "E"]},
    "markup in a keyword": {"keywords[]": "<b>"},
    "unknown keep_alive": {"keep_alive": "soon"},
}
FORM = {"content-type": "multipart/form-data; boundary=frontier"}
PART = b'--frontier\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
BODIES: dict[str, tuple[Mapping[str, str], bytes]] = {
    "empty body": ({}, b""),
    "JSON in place of a form": ({"content-type": "application/json"}, b'{"model": "whisper-1"}'),
    "urlencoded form": ({"content-type": "application/x-www-form-urlencoded"}, b"model=whisper-1"),
    "no boundary": ({"content-type": "multipart/form-data"}, PART),
    "another boundary": ({"content-type": "multipart/form-data; boundary=other"}, PART),
    "form that breaks off": (FORM, PART),
    "form without a file": (FORM, PART + b"--frontier--\r\n"),
}
ROUTES = (
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/whisper-1"),
    ("GET", "/v1/models/gpt-4o-transcribe"),
    ("GET", "/v1/models/nonesuch"),
    ("POST", "/v1/models/tiny"),
    ("DELETE", "/v1/models/tiny"),
    ("GET", "/api/ps"),
    ("POST", "/api/ps/tiny"),
    ("DELETE", "/api/ps/tiny"),
    ("GET", TRANSCRIPTIONS),
    ("PUT", TRANSCRIPTIONS),
    ("HEAD", "/health"),
    ("HEAD", "/v1/models"),
    ("GET", "/v1"),
    ("GET", "/v1/nonesuch"),
    ("POST", "/audio/transcriptions"),
    ("POST", "/v1/v1/audio/transcriptions"),
    ("GET", "//v1//models"),
    ("GET", "/nonesuch"),
    ("GET", "/favicon.ico"),
)


def without_recording() -> Iterator[Request]:
    """Fields, files, bodies and routes; most are refused."""
    speech = (SPEECH, (DATA / SPEECH).read_bytes())
    for name, fields in REFUSED.items():
        yield transcription(f"refused: {name}", fields, speech)
    yield transcription("refused: file is text", {"file": "speech.wav"}, None)
    for name, bad in BAD_INPUTS.items():
        yield transcription(f"file: {name}", {"response_format": "verbose_json"}, (name, bad.build()))
    yield transcription("stream of a file that is no audio", {"stream": "true"}, ("text.mp3", b"no audio" * 99))
    for name, (headers, body) in BODIES.items():
        yield Request(f"body: {name}", headers=headers, body=body)
    for method, path in ROUTES:
        yield Request(f"{method} {path}", path, method)
    for path in ("/openai/v1/audio/transcriptions", "/openai/deployments/whisper-1/audio/translations"):
        yield transcription(path, {}, speech, path=path)
    origin = {"origin": "https://example.org", "access-control-request-method": "POST"}
    yield Request("preflight", method="OPTIONS", headers=origin)
    yield Request("answer to another origin", "/v1/models", "GET", headers={"origin": "https://example.org"})
