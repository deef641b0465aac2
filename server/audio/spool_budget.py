"""Limits the disk space of decoded audio, in total and for each client.

A file that has no room for its next stretch waits for it, as long as another one is being decoded or transcribed
and will free its own. Where all wait for each other the last one fails.
"""

import threading
from collections import Counter

from server.errors import RateLimited, Unavailable
from server.quota import Quota

RETRY_S = 60


class SpoolAccount:
    """The bytes that one file has on disk, or reserved there."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.held_bytes = 0
        self.is_waiting = False
        self.is_cancelled = False


class SpoolBudget:
    """Thread-safe."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._accounts: list[SpoolAccount] = []
        self._changed = threading.Condition()

    def open(self, account: SpoolAccount) -> None:
        with self._changed:
            self._accounts.append(account)

    def close(self, account: SpoolAccount) -> None:
        """Give back all that it holds."""
        with self._changed:
            self._accounts.remove(account)
            self._changed.notify_all()

    def grow(self, account: SpoolAccount, size_bytes: int) -> None:
        """Count a file of `size_bytes`. Raises `Unavailable` if that is more than the total leaves."""
        with self._changed:
            if size_bytes > account.held_bytes:
                if self.used_bytes + size_bytes - account.held_bytes > self._quota.total:
                    raise _full()
                account.held_bytes = size_bytes

    def reserve(self, account: SpoolAccount, size_bytes: int) -> None:
        """Wait until the file may grow to `size_bytes`, or is cancelled.

        Raises `RateLimited` if all other files of its client wait for room too, and `Unavailable` if those of
        all clients do.
        """
        with self._changed:
            account.is_waiting = True
            try:
                while not account.is_cancelled and self._must_wait(account, size_bytes):
                    self._changed.wait()
            finally:
                account.is_waiting = False
            account.held_bytes = max(size_bytes, account.held_bytes)

    def settle(self, account: SpoolAccount, size_bytes: int) -> None:
        """Count a file that grows no further, and give back what was reserved for it beyond that."""
        with self._changed:
            account.held_bytes = size_bytes
            self._changed.notify_all()

    def cancel(self, account: SpoolAccount) -> None:
        """End its waiting, now or later."""
        with self._changed:
            account.is_cancelled = True
            self._changed.notify_all()

    @property
    def used_bytes(self) -> int:
        """On disk or reserved, by all files."""
        return sum(account.held_bytes for account in self._accounts)

    def held_bytes(self) -> Counter[str]:
        """The same by client."""
        with self._changed:
            return self._held(self._accounts)

    def _must_wait(self, account: SpoolAccount, size_bytes: int) -> bool:
        others = [other for other in self._accounts if other is not account]
        match self._quota.refusal(self._held(others), account.client, size_bytes):
            case None:
                return False
            case "share":
                own = [other for other in others if other.client == account.client]
                if all(other.is_waiting for other in own):
                    raise _share_is_full(self._quota)
            case "full":
                if all(other.is_waiting for other in others):
                    raise _full()
        return True

    @staticmethod
    def _held(accounts: list[SpoolAccount]) -> Counter[str]:
        held: Counter[str] = Counter()
        for account in accounts:
            held[account.client] += account.held_bytes
        return held


def _full() -> Unavailable:
    return Unavailable("The server has no space left for decoded audio (SOTTO_SPOOL_MB). Please try again later.")


def _share_is_full(quota: Quota) -> RateLimited:
    text = f"Rate limit reached: bytes of decoded audio. Limit: {quota.share:.0f}. Please try again in {RETRY_S}s."
    return RateLimited(text, retry_after_s=RETRY_S)
