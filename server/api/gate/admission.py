"""Admission control: rejects requests before their body is read, and estimates when to retry.

Every limit is shared by one rule (`server.quota`). The last eighth of most is reserved for small uploads, and these
count only short recordings as waiting before them, since the engine prefers those. An admitted request is not
rejected because of later ones, except for an upload that outgrows the room that is left.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from server.api.gate.admission_limits import AdmissionLimits, Resource, Resources
from server.api.gate.throughput import Throughput
from server.api.gate.ticket import Ticket
from server.errors import RateLimited, Unavailable
from server.options import INTERACTIVE_S
from server.stats import ServerLoad

MAX_RETRY_S = 60  # OpenAI's clients ignore longer delays


class Admission:
    """Admits requests while there is room. Not thread-safe."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        spooled: Callable[[], Mapping[str, int]] = dict,
        speed: Throughput | None = None,
    ) -> None:
        """`spooled` returns the bytes of decoded audio on disk, by client."""
        self._limits = limits
        self._resources = Resources(limits)
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
            spool_bytes=sum(self._spooled().values()),
            audio_s=sum(map(self._known_s, self._tickets)),
            speed=self._speed.value or 0.0,
            refused=dict(self._refused),
        )

    def reserve_upload(self, ticket: Ticket, size_bytes: int) -> None:
        """Have `ticket` hold `size_bytes`. Raises `Unavailable` or `RateLimited` if other uploads leave no room."""
        self._check_upload(ticket, size_bytes)
        ticket.upload_bytes = size_bytes

    def reserve_text(self, ticket: Ticket) -> None:
        """Raise `Unavailable` or `RateLimited` if the forms hold too much text."""
        held = self._held(lambda other: 0 if other is ticket else other.text_bytes)
        self._demand(self._resources.text_bytes, ticket, held, ticket.text_bytes)

    def _check(self, new: Ticket) -> None:
        """Raise `Unavailable` or `RateLimited` unless there is some room of everything for `new`."""
        resources = self._resources
        self._demand(resources.requests, new, self._held(lambda _: 1))
        self._demand(resources.uploads, new, self._held(lambda ticket: ticket.uploading))
        self._demand(resources.spool_bytes, new, self._spooled())
        self._demand(resources.queue_s, new, self._queue(new))
        self._check_upload(new, new.declared_bytes)

    def _check_upload(self, ticket: Ticket, size_bytes: int) -> None:
        held = self._held(lambda other: 0 if other is ticket else other.upload_bytes)
        if any(held.values()):  # one upload alone is never too much: another limit says how large one may be
            self._demand(self._resources.upload_bytes, ticket, held, size_bytes)

    def _queue(self, new: Ticket) -> dict[str, float]:
        """Seconds of audio that `new` would have to wait for, by client; of other clients no more than their share,
        so that one that has more leaves the rest to others."""
        waiting = self._held(lambda ticket: self._waiting_s(ticket, new))
        share_s = self._limits.queue_s.share
        return {client: s if client == new.client else min(s, share_s) for client, s in waiting.items()}

    def _waiting_s(self, ticket: Ticket, new: Ticket) -> float:
        left_s = ticket.waiting_s(self._limits.audio_s)
        return left_s if left_s <= INTERACTIVE_S or not new.small else 0.0

    def _held(self, amount: Callable[[Ticket], float]) -> dict[str, float]:
        """The sum of `amount` over the tickets of each client."""
        held: defaultdict[str, float] = defaultdict(float)
        for ticket in self._tickets:
            held[ticket.client] += amount(ticket)
        return held

    def _demand(self, resource: Resource, ticket: Ticket, held: Mapping[str, float], amount: float = 1) -> None:
        """Raise `RateLimited` or `Unavailable` unless the client may hold `amount` more than is `held`."""
        reserved = 0.0 if ticket.small else resource.reserve
        refusal = resource.quota.refusal(held, ticket.client, amount, reserved=reserved)
        if refusal == "share":
            self._refused["client"] += 1
            raise self._too_much(resource, ticket.client)
        if refusal == "full":
            self._refused[resource.name] += 1
            raise self._full(resource, held)

    def _full(self, resource: Resource, held: Mapping[str, float]) -> Unavailable:
        work_s = self._until_half_are_done_s(self._tickets)
        if resource is self._resources.queue_s:
            work_s = max(0.0, sum(held.values()) - resource.quota.total)
        retry_s = self._retry_after_s(work_s)
        text = f"The server has {resource.fullness}. Please try again in {retry_s}s."
        return Unavailable(text, retry_after_s=retry_s)

    def _too_much(self, resource: Resource, client: str) -> RateLimited:
        own = [ticket for ticket in self._tickets if ticket.client == client]
        retry_s = self._retry_after_s(self._until_half_are_done_s(own))
        limit = max(1, int(resource.quota.share))
        text = f"Rate limit reached: {resource.unit}. Limit: {limit}. Please try again in {retry_s}s."
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

    def _known_s(self, ticket: Ticket) -> float:
        return ticket.known_s(self._limits.audio_s)

    def _expected_s(self, ticket: Ticket) -> float:
        """Return the same, or the average of past requests where nothing is known yet."""
        return self._known_s(ticket) or self._ended_s / max(1, self._ended)


def _done_s(tickets: Iterable[Ticket]) -> float:
    return sum(ticket.work.done_s for ticket in tickets if ticket.work)
