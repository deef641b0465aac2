"""What is told of a request once it has ended: a line of the log, and counts for the metrics.

Of what was said in it nothing is here, unless the operator asks for that. Knows no HTTP.
"""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Literal

from server.stats import Durations

METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())

Ending = Literal["answered", "refused", "failed", "left"]


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """A request that has ended; `why`, unless it was answered or its client left.

    `path` is as the client wrote it, `route` the template that it fits, empty if it fits none. The rest is of
    transcriptions: `model` is the served one's name, `audio_s` what was decoded, `done_s` what of it was heard,
    `wait_s` the time until the model began with it, `run_s` from there to the end. `text` and `prompt` are None
    unless they are to be logged.
    """

    client: str
    key: str
    method: str
    path: str
    route: str
    status: int
    ended: Ending
    why: str
    total_s: float
    in_bytes: int
    out_bytes: int
    model: str = ""
    audio_s: float | None = None
    done_s: float | None = None
    wait_s: float | None = None
    run_s: float | None = None
    prompt: str | None = None
    text: str | None = None

    def __str__(self) -> str:
        """In one line, what is always there first."""
        parts = [f"{self.status} {self.total_s:8.3f}s {self.method} {self.path} {self.client}"]
        parts += [f"({self.key})"] if self.key else []
        parts += [self.model] if self.model else []
        times = {"audio": self.audio_s, "wait": self.wait_s, "run": self.run_s}
        parts += [f"{name} {value:.3f}s" for name, value in times.items() if value is not None]
        parts.append(f"in {self.in_bytes} out {self.out_bytes}")
        parts += [] if self.ended == "answered" else [f"{self.ended}: {self.why}" if self.why else self.ended]
        texts = {"prompt": self.prompt, "text": self.text}
        parts += [f'{name} "{value}"' for name, value in texts.items() if value is not None]
        return " ".join(parts)

    def fields(self) -> dict[str, Any]:
        """Each with a name of its own, times to the millisecond; without what there is nothing to say of."""
        told = {name: value for name, value in asdict(self).items() if value is not None and value != ""}
        times = {name: round(value, 3) for name, value in told.items() if isinstance(value, float)}
        return {"message": f"{self.method} {self.path} {self.status}"} | told | times


class RequestCounters:
    """Counts requests as they end."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int, str]] = Counter()  # by route, method, status, model
        self.totals: defaultdict[tuple[str, str], Durations] = defaultdict(Durations)  # by route, model
        self.waits: defaultdict[str, Durations] = defaultdict(Durations)  # by model, as the rest
        self.runs: defaultdict[str, Durations] = defaultdict(Durations)
        self.received_s: defaultdict[str, float] = defaultdict(float)
        self.done_s: defaultdict[str, float] = defaultdict(float)

    def add(self, access: AccessRecord) -> None:
        model = access.model
        method = access.method if access.method in METHODS else ""  # else anybody could make series without end
        self.requests[access.route, method, access.status, model] += 1
        self.totals[access.route, model] = self.totals[access.route, model].plus(access.total_s)
        if access.wait_s is not None:
            self.waits[model] = self.waits[model].plus(access.wait_s)
        if access.run_s is not None:
            self.runs[model] = self.runs[model].plus(access.run_s)
        if access.audio_s is not None:
            self.received_s[model] += access.audio_s
            self.done_s[model] += access.done_s or 0.0
