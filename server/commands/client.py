"""A client of a Sotto server, for commands that don't do the work themselves. The only module that uses httpx2.

Retries after the delay that the server suggests. A transcription is streamed, so that its progress is known, and
converted back to a `Transcript`, so that any format can be written from it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from server.errors import InvalidRequest, RemoteError
from server.options import TranscriptionOptions, UploadFd
from server.system.addresses import is_loopback
from server.transcript import Segment, Transcript, Word

KEY_VARIABLES = ("SOTTO_API_KEY", "OPENAI_API_KEY")
TIMEOUT = httpx2.Timeout(10.0, read=600.0, write=60.0)  # once it has begun, a stream sends something every 10 s
RETRIED = (429, 503)
ATTEMPTS = 20
WAIT_S = 2.0  # used if the server gives no delay
MAX_WAIT_S = 60.0
AT_ONCE = 4
AHEAD_S = 600.0  # of audio under way; below it, another recording is sent
DATA = "data:"
DEFAULT = "whisper-1"  # stands for the default model

Sleep = Callable[[float], Awaitable[None]]


class Client:
    """A server's address, with or without `/v1`, and a key: by default from SOTTO_API_KEY or OPENAI_API_KEY.
    Raises `RemoteError` for every error response."""

    at_once = AT_ONCE
    ahead_s = AHEAD_S

    def __init__(self, url: str, key: str | None = None, *, sleep: Sleep = asyncio.sleep) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidRequest(f"the address of a server looks like http://127.0.0.1:8000, not {url!r}")
        self.url = url.rstrip("/").removesuffix("/v1")
        found = (os.environ.get(name, "") for name in KEY_VARIABLES)
        key = next((one for one in found if one), "") if key is None else key
        self._sleep = sleep
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT,
            trust_env=not is_loopback(address.hostname),  # no proxy for this machine
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> httpx2.Response:
        """Return the response to GET `path`."""
        async with self.answer("GET", path) as response:
            await response.aread()
            return response

    @asynccontextmanager
    async def answer(self, method: str, path: str, **content: Any) -> AsyncIterator[httpx2.Response]:
        """Yield a successful response, its body not read yet. Retries while the server has no room."""
        # httpx2 itself retries connections only, and knows no Retry-After.
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._http.stream(method, path, **content) as response:
                    if response.is_success:
                        yield response
                        return
                    await response.aread()
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                raise RemoteError(f"no server answers at {self.url} ({error or type(error).__name__})") from error
            except httpx2.HTTPError as error:
                raise RemoteError(f"{self.url}: {error or type(error).__name__}") from error
            if not _may_pass(response) or attempt == ATTEMPTS:
                raise RemoteError(_reason(response))
            await self._sleep(_wait_s(response))

    async def is_demo(self, model: str) -> bool:
        """Return True if the server calls that model (empty: its default) a demo; False if it doesn't say."""
        try:
            response = await self.get(f"/v1/models/{quote(model or DEFAULT, safe='')}")
            return bool(response.json().get("demo"))
        except (RemoteError, ValueError, AttributeError):
            return False

    def transcribe(self, source: UploadFd, options: TranscriptionOptions) -> "RemoteTranscription":
        """Start transcribing `source`, which must stay open until the result is closed."""
        return RemoteTranscription(self, source, options)


class RemoteTranscription:
    """A transcription by the server, with the interface of `pipeline.Transcription`."""

    def __init__(self, client: Client, source: UploadFd, options: TranscriptionOptions) -> None:
        self.done_s = 0.0
        self.duration_hint_s: float | None = None
        self._options = options
        self._segments: list[Segment] = []
        self._run = asyncio.create_task(self._ask(client, source))

    @property
    def left_s(self) -> float:
        return 0.0 if self._run.done() else max(0.0, (self.duration_hint_s or 0.0) - self.done_s)

    async def result(self) -> Transcript:
        return await asyncio.shield(self._run)

    async def close(self) -> None:
        """Close the connection; the server then cancels the work."""
        self._run.cancel()
        await asyncio.gather(self._run, return_exceptions=True)

    async def _ask(self, client: Client, source: UploadFd) -> Transcript:
        task = self._options.decoding.task
        route = "translations" if task == "translate" else "transcriptions"
        with os.fdopen(os.dup(source.fd), "rb") as file:
            files = {"file": (source.name_hint, file, "application/octet-stream")}
            form = {"data": _fields(self._options), "files": files}
            async with client.answer("POST", f"/v1/audio/{route}", **form) as response:
                done = await self._follow(response)
        spoken = done.get("languages") or [{"code": self._options.decoding.language or "en"}]
        return Transcript(task, spoken[0]["code"], None, self.done_s, tuple(self._segments))

    async def _follow(self, response: httpx2.Response) -> dict[str, Any]:
        """Process the stream's events; return the last one."""
        async for line in response.aiter_lines():
            event = json.loads(line.removeprefix(DATA)) if line.startswith(f"{DATA} {{") else {}
            match event.get("type"):
                case "sotto.progress":
                    self.done_s, self.duration_hint_s = event["done_s"], event.get("total_hint_s")
                case "sotto.segment":
                    self._segments.append(_segment(event))
                case "transcript.text.done" if self._segments or not event["text"]:
                    return dict(event)
            if "error" in event:
                raise RemoteError(event["error"]["message"])
        raise RemoteError("the stream ended without its segments: is this a Sotto server?")


def _fields(options: TranscriptionOptions) -> dict[str, str | list[str]]:
    decoding = options.decoding
    fields: dict[str, str | list[str]] = {
        "model": options.model or DEFAULT,
        "stream": "true",
        "stream_events[]": ["segments", "progress"],
        "timestamp_granularities[]": ["segment", "word"] if decoding.word_timestamps else ["segment"],
        "prompt": decoding.prompt,
        "language": decoding.language or "",
    }
    return {name: value for name, value in fields.items() if value}


def _segment(event: dict[str, Any]) -> Segment:
    words = tuple(_words(event["text"], event["words"])) if "words" in event else None
    fields = {name: event[name] for name in Segment.__slots__ if name in event}
    return Segment(**{**fields, "tokens": tuple(event["tokens"]), "words": words})


def _words(text: str, words: list[dict[str, Any]]) -> Iterator[Word]:
    """Yield words with the spaces and punctuation that the API omits: each ends before the next one's."""
    starts, position = [], 0
    for one in words:
        found = text.find(one["word"], position)
        starts.append(position if found < 0 else found)
        position = starts[-1] + len(one["word"])
    begins = [0]
    for before, start, one in zip(starts, starts[1:], words, strict=False):
        end = before + len(one["word"])
        spaces = [index for index in range(end, start) if text[index].isspace()]
        begins.append(spaces[-1] if spaces else start)
    for begin, end, one in zip(begins, [*begins[1:], len(text)], words, strict=True):
        yield Word(text[begin:end], one["start"], one["end"], one["probability"])


def _may_pass(response: httpx2.Response) -> bool:
    """Return True if the server's response allows a retry."""
    return response.status_code in RETRIED and response.headers.get("x-should-retry") != "false"


def _wait_s(response: httpx2.Response) -> float:
    retry_after = response.headers.get("retry-after", "")
    return min(float(retry_after), MAX_WAIT_S) if retry_after.isdecimal() else WAIT_S


def _reason(response: httpx2.Response) -> str:
    """Return the message of an error's envelope, if there is one; and where a key is expected."""
    hint = f" The key sent is that of {', or else '.join(KEY_VARIABLES)}." if response.status_code == 401 else ""
    try:
        return str(response.json()["error"]["message"]) + hint
    except (ValueError, KeyError, TypeError):
        return f"{response.url} answers {response.status_code}"
