"""A client's share of anything that has a limit: requests, audio that waits, bytes of uploads, disk, text.

One rule for all of them. A client is a key, or an address where no keys are set. It may hold its share, by default
half of the total, and never more than the same part of what the other clients leave: a half alone, a quarter beside
one that has its half, a third each of two that want all they can get. So a few clients can't take all, however much
they ask for. A client that holds nothing yet may have all that is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

Refusal = Literal["share", "full"]

HALF = 0.5


@dataclass(frozen=True, slots=True)
class Quota:
    """The total that all clients may hold together, and the share of it that one may hold."""

    total: float
    share: float

    @classmethod
    def halved(cls, total: float, share: float | None = None) -> Self:
        """A quota whose share is half of its total and at least 1, unless it is given."""
        return cls(total, max(1, total * HALF) if share is None else share)

    def refusal(
        self, held: Mapping[str, float], client: str, amount: float, *, reserved: float = 0
    ) -> Refusal | None:
        """Why `client` may not hold `amount` more than is `held` by all clients, itself included; None if it may.

        `share`: because of what it has itself. `full`: because of what others have, or because nothing is left for
        anybody. The last `reserved` of the total are for others.
        """
        own = held.get(client, 0)
        left = self.total - (sum(held.values()) - own)
        if min(own, self.share) + amount > left - reserved:
            return "full"
        if own and own + amount > self.share:
            return "share"
        return "full" if own and own + amount > left * self._part else None

    @property
    def _part(self) -> float:
        """How much of what others leave one client may hold, from 0.5 to 1."""
        return max(HALF, min(self.share / self.total, 1.0))
