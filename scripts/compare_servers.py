"""Whether two running servers answer alike: for a change that is to change no answer.

    SOTTO_PORT=8001 ../before/.venv/bin/sotto serve --model base
    SOTTO_PORT=8002 .venv/bin/sotto serve --model base
    python -m scripts.compare_servers http://127.0.0.1:8001 http://127.0.0.1:8002 tests/data/en_0*.wav

Asks both for every format and option of each recording named, and for what is refused; compares status, headers and
every byte of the body, but for ids and times of day. Where they differ, both are asked again: what differs from
itself (as a model does that samples, above temperature 0) is counted apart. Exits with 1 where answers differ.
"""

import argparse
import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import httpx2

from scripts.compared_requests import Request, of_recording, without_recording

# What is of one answer or one process alone.
OWN_HEADERS = frozenset({"date", "x-request-id", "openai-processing-ms"})
OWN_MEMBERS = re.compile(rb'"(created|time|last_used|expires_at|memory_bytes)": ?(?:[0-9.]+|null)')
HEARTBEATS = re.compile(rb"^: still working\r\n\r\n", re.MULTILINE)
TRIES = 3
SHOWN_LINES = 14
SHOWN_CHARACTERS = 200

Outcome = Literal["same", "unstable", "different"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets, without what is of this answer alone."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def lines(self) -> list[str]:
        """For people: a body of JSON is indented."""
        text = self.body.decode("utf-8", "backslashreplace")
        try:
            text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
        except ValueError:  # no JSON
            text = text.replace('{"type"', '\n{"type"')
        return [str(self.status), *(f"{name}: {value}" for name, value in self.headers), *text.splitlines()]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`difference` is shown to people; empty where there is none."""

    name: str
    outcome: Outcome
    status: int
    difference: str = ""


Ask = Callable[[Request], Answer]


def ask(client: httpx2.Client, url: str, request: Request, *, ignored: frozenset[str] = frozenset()) -> Answer:
    """Send a request to the server at `url`. Headers named in `ignored` (lower case) may differ.

    Where there is no answer, it is one of status 0 with the error in its place.
    """
    try:
        response = client.request(
            request.method, url + request.path, headers=dict(request.headers), timeout=None, **_content(request)
        )
    except httpx2.TransportError as error:
        return Answer(0, (), type(error).__name__.encode())
    body = HEARTBEATS.sub(b"", OWN_MEMBERS.sub(rb'"\1":0', response.content))
    headers = [(name.lower(), value) for name, value in response.headers.multi_items()]
    kept = [(name, value) for name, value in headers if name not in OWN_HEADERS | ignored]
    if body:  # whose length says nothing more; HEAD has but the length
        kept = [(name, "..." if name == "content-length" else value) for name, value in kept]
    return Answer(response.status_code, tuple(sorted(kept)), body)


def _content(request: Request) -> dict[str, Any]:
    """A form, if there are fields: all its parts are of `multipart/form-data`, with a file or without."""
    if request.body is not None:
        return {"content": request.body}
    parts: list[tuple[str, Any]] = []
    for name, values in request.fields.items():
        parts += [(name, (None, value)) for value in ([values] if isinstance(values, str) else values)]
    return {"files": [*parts, ("file", request.file)] if request.file else parts} if parts else {}


def compare(before: Ask, after: Ask, request: Request) -> Comparison:
    """Ask both at once; where they differ, see whether either differs from itself."""
    with ThreadPoolExecutor(2) as pool:
        old, new = (answer.result() for answer in [pool.submit(before, request), pool.submit(after, request)])
    if old == new:
        return Comparison(request.name, "same", old.status)
    unstable = any(before(request) != old or after(request) != new for _ in range(TRIES))
    return Comparison(request.name, "unstable" if unstable else "different", old.status, difference(old, new))


def difference(old: Answer, new: Answer) -> str:
    lines = difflib.unified_diff(old.lines(), new.lines(), n=0, lineterm="")
    changed = [line[:SHOWN_CHARACTERS] for line in lines if not line.startswith(("---", "+++", "@@"))]
    more = [f"... {len(changed) - SHOWN_LINES} more"] if len(changed) > SHOWN_LINES else []
    return (
        "\n".join(f"    {line}" for line in changed[:SHOWN_LINES] + more) or "    only in how the bytes are written"
    )


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares two running servers, request by request.")
    parser.add_argument("before", help="address of the first server, such as http://127.0.0.1:8001")
    parser.add_argument("after", help="address of the second one")
    parser.add_argument("recordings", nargs="*", type=Path, metavar="RECORDING")
    parser.add_argument("--few", action="store_true", help="of a recording only what costs the model least")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="requests at once to each (default: 1)")
    parser.add_argument("--only", default="", metavar="REGEX", help="only requests whose name matches")
    parser.add_argument(
        "--ignore-header", action="append", default=[], metavar="NAME", help="a header that may differ"
    )
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    ignored = frozenset(name.lower() for name in given.ignore_header)
    of_recordings = chain.from_iterable(of_recording(path, few=given.few) for path in given.recordings)
    outcomes: Counter[Outcome] = Counter()
    statuses: Counter[int] = Counter()
    with httpx2.Client() as client:
        before, after = (
            partial(ask, client, url.rstrip("/"), ignored=ignored) for url in (given.before, given.after)
        )
        each = partial(compare, before, after)
        # What a server says of its queue is compared while it has none.
        for requests, jobs in ((without_recording(), 1), (of_recordings, given.jobs)):
            chosen = [request for request in requests if re.search(given.only, request.name)]
            with ThreadPoolExecutor(jobs) as pool:
                for compared in pool.map(each, chosen):
                    outcomes[compared.outcome] += 1
                    statuses[compared.status] += 1
                    if compared.outcome != "same":
                        print(f"{compared.outcome}: {compared.name}\n{compared.difference}", flush=True)
    print("status of the first:", ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())))
    print(", ".join(f"{outcomes[outcome]} {outcome}" for outcome in get_args(Outcome)))
    return 1 if outcomes["different"] or not outcomes["same"] else 0


if __name__ == "__main__":
    sys.exit(main())
