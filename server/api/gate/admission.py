"""Admission control: rejects requests before their body is read, and estimates when to retry.

An admitted request is not rejected because of later ones. The last eighth of every limit but that of audio is
reserved for small uploads, and these count only short recordings as waiting before them, since the engine
prefers those.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from server.api.gate.throughput import Throughput
from server.errors import RateLimited, Unavailable
from server.options import INTERACTIVE_S
from server.settings import MOST_REQUESTS, Settings
from server.stats import ServerLoad

SMALL_BYTES = 2 << 20  # a minute of 16 kHz WAV, several of anything compressed
SMALL_UPLOAD_SHARE = 8  # the reserved share: one in eight
CPU_REQUESTS = 32  # per CPU
QUEUE_S, CPU_QUEUE_S = 14_400.0, 3_600.0  # the maximum, and the limit per CPU
TEXT_BYTES = 64 << 20  # of all forms; kept in memory until their requests end
LITTLE_TEXT_BYTES = 64 << 10  # per request, always accepted: enough for any prompt
MAX_RETRY_S = 60  # OpenAI's clients ignore longer delays


class RequestProgress(Protocol):
    """Progress of a transcription: audio done, audio left as far as it is known, and details for the log."""

    @property
    def done_s(self) -> float: ...

    @property
    def wait_s(self) -> float | None: ...

    @property
    def left_s(self) -> float: ...

    @property
    def audio_s(self) -> float: ...

    @property
    def run_s(self) -> float | None: ...

    @property
    def model(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits on concurrent work, in total and per client."""

    requests: int
    uploads: int
    upload_bytes: int
    spool_bytes: int
    queue_s: float
    client_requests: int
    client_queue_s: float
    audio_s: float

    @classmethod
    def of(cls, settings: Settings, *, cpus: int | None) -> "AdmissionLimits":
        """Take the limits from `settings`; unset ones depend on the number of CPUs (None for a GPU)."""
        requests = settings.max_requests or min(MOST_REQUESTS, CPU_REQUESTS * (cpus or MOST_REQUESTS))
        queue_s = settings.max_queue_seconds or min(QUEUE_S, CPU_QUEUE_S * (cpus or QUEUE_S))
        return cls(
            requests=requests,
            uploads=settings.max_uploads or requests,
            upload_bytes=settings.uploads_bytes,
            spool_bytes=settings.spool_bytes,
            queue_s=queue_s,
            client_requests=settings.max_requests_per_client or max(1, requests // 2),
            client_queue_s=settings.max_queue_seconds_per_client or queue_s / 2,
            audio_s=settings.max_audio_seconds,
        )


class Ticket:
    """An admitted request and the resources it holds until it ends. `deadline` is by the event loop's clock."""

    def __init__(self, admission: "Admission", client: str, declared_bytes: int, deadline: float | None) -> None:
        self.client = client
        self.small = 0 < declared_bytes <= SMALL_BYTES
        self.upload_bytes = declared_bytes
        self.text_bytes = 0
        self.uploading = True
        self.deadline = deadline
        self.model = ""  # the model's name, once it is known
        self.work: RequestProgress | None = None
        self._admission = admission

    def receive(self, received_bytes: int, *, more: bool) -> None:
        """Record the bytes received; raises `Unavailable` if they exceed the declared size and there is no room."""
        self.uploading = more
        if received_bytes > self.upload_bytes:
            self.upload_bytes = received_bytes
            self._admission.check_room_for(self)

    def keep_text(self, count: int) -> None:
        """Count text that the request keeps in memory; raises `Unavailable` if there is no room for it."""
        self.text_bytes += count
        if self.text_bytes > LITTLE_TEXT_BYTES:
            self._admission.check_room_for_text()

    def follow(self, work: RequestProgress) -> None:
        """Count the audio of `work` from here on."""
        self.work = work
        self._admission.look()


class Admission:
    """Admits requests while there is room. Not thread-safe."""

    def __init__(
        self, limits: AdmissionLimits, *, spooled: Callable[[], int] = lambda: 0, speed: Throughput | None = None
    ) -> None:
        """`spooled` returns the bytes of decoded audio on disk."""
        self._limits = limits
        self._spooled = spooled
        self._speed = speed or Throughput()
        self._tickets: list[Ticket] = []
        self._ended = 0  # number of requests that have ended
        self._ended_s = 0.0  # seconds of audio that they had done
        self._refused: Counter[str] = Counter()

    @contextmanager
    def admit(self, client: str, declared_bytes: int, deadline: float | None = None) -> Iterator[Ticket]:
        """Hold a place for a request until the block ends. Raises `Unavailable` and `RateLimited`."""
        ticket = Ticket(self, client, declared_bytes, deadline)
        self.look()
        self._check(ticket)
        self._tickets.append(ticket)
        try:
            yield ticket
        finally:
            self._ended += 1
            self._ended_s += _done_s([ticket])
            self._tickets.remove(ticket)
            self.look()

    def look(self) -> None:
        """Update the measured speed; called whenever the amount of work changes."""
        busy = any(ticket.work for ticket in self._tickets)
        self._speed.look(self._ended_s + _done_s(self._tickets), busy=busy)

    def load(self) -> ServerLoad:
        """Return the current load."""
        self.look()
        return ServerLoad(
            requests=len(self._tickets),
            uploads=sum(ticket.uploading for ticket in self._tickets),
            upload_bytes=sum(ticket.upload_bytes for ticket in self._tickets),
            spool_bytes=self._spooled(),
            audio_s=self._left_s(self._tickets),
            speed=self._speed.value or 0.0,
            refused=dict(self._refused),
        )

    def check_room_for(self, ticket: Ticket) -> None:
        """Raise `Unavailable` if the other uploads leave no room on the disk for that of `ticket`."""
        others = [other.upload_bytes for other in self._tickets if other is not ticket]
        if any(others) and sum(others) + ticket.upload_bytes > self._room(self._limits.upload_bytes, ticket):
            raise self._full("upload_bytes", "no space left for uploads (SOTTO_UPLOADS_MB)")

    def check_room_for_text(self) -> None:
        """Raise `Unavailable` if all forms together hold too much text."""
        if sum(ticket.text_bytes for ticket in self._tickets) > TEXT_BYTES:
            raise self._full("text", "no memory left for the text of forms")

    def _check(self, new: Ticket) -> None:
        limits, tickets = self._limits, self._tickets
        waiting_s = self._waiting_s(tickets, new)
        if len(tickets) >= self._room(limits.requests, new):
            raise self._full("requests", "too many requests in progress (SOTTO_MAX_REQUESTS)")
        if sum(ticket.uploading for ticket in tickets) >= self._room(limits.uploads, new):
            raise self._full("uploads", "too many uploads in progress (SOTTO_MAX_UPLOADS)")
        if self._spooled() >= self._room(limits.spool_bytes, new):
            raise self._full("spool_bytes", "no space left for decoded audio (SOTTO_SPOOL_MB)")
        if waiting_s >= limits.queue_s:
            text = "too much audio waiting (SOTTO_MAX_QUEUE_SECONDS)"
            raise self._full("queue", text, waiting_s - limits.queue_s)
        self.check_room_for(new)
        self._check_client(new, [ticket for ticket in tickets if ticket.client == new.client])

    def _check_client(self, new: Ticket, own: list[Ticket]) -> None:
        limits = self._limits
        waiting_s = self._waiting_s(own, new)
        if len(own) >= limits.client_requests:
            raise self._too_many("concurrent requests", limits.client_requests, own)
        if waiting_s >= limits.client_queue_s:
            raise self._too_many("seconds of audio waiting", round(limits.client_queue_s), own)

    def _room(self, limit: int, ticket: Ticket) -> int:
        return limit if ticket.small else limit - limit // SMALL_UPLOAD_SHARE

    def _full(self, reason: str, text: str, work_s: float | None = None) -> Unavailable:
        self._refused[reason] += 1
        retry_s = self._retry_after_s(self._until_half_are_done_s(self._tickets) if work_s is None else work_s)
        return Unavailable(f"The server has {text}. Please try again in {retry_s}s.", retry_after_s=retry_s)

    def _too_many(self, what: str, limit: int, own: list[Ticket]) -> RateLimited:
        self._refused["client"] += 1
        retry_s = self._retry_after_s(self._until_half_are_done_s(own))
        text = f"Rate limit reached: {what}. Limit: {limit}. Please try again in {retry_s}s."
        return RateLimited(text, retry_after_s=retry_s)

    def _until_half_are_done_s(self, some: list[Ticket]) -> float:
        """Return the seconds of audio to process until half of `some` are done, if all requests take turns."""
        left = sorted(map(self._expected_s, some))
        half_s = left[(len(left) - 1) // 2] if left else 0.0
        return sum(min(self._expected_s(ticket), half_s) for ticket in self._tickets)

    def _retry_after_s(self, work_s: float) -> int:
        """Return the seconds that `work_s` of audio takes, rounded up, within the delays that clients respect."""
        speed = self._speed.value
        if speed is None:
            return Unavailable.retry_after_s
        return min(max(1, math.ceil(work_s / speed)), MAX_RETRY_S)

    def _waiting_s(self, tickets: list[Ticket], new: Ticket) -> float:
        """Return the seconds of audio in `tickets` that `new` would have to wait for."""
        left = map(self._ticket_s, tickets)
        return sum(left_s for left_s in left if left_s <= INTERACTIVE_S or not new.small)

    def _left_s(self, tickets: Iterable[Ticket]) -> float:
        return sum(map(self._ticket_s, tickets))

    def _ticket_s(self, ticket: Ticket) -> float:
        """Return the seconds left in a request, capped at the longest audio allowed: headers may claim anything."""
        return min(ticket.work.left_s, self._limits.audio_s) if ticket.work else 0.0

    def _expected_s(self, ticket: Ticket) -> float:
        """Return the same, or the average of past requests where nothing is known yet."""
        return self._ticket_s(ticket) or self._ended_s / max(1, self._ended)


def _done_s(tickets: Iterable[Ticket]) -> float:
    return sum(ticket.work.done_s for ticket in tickets if ticket.work)
