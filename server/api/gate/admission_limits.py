"""The limits of admission: what clients share, how much there is of it, and how errors call it."""

from dataclasses import dataclass

from server.quota import Quota
from server.settings import MOST_REQUESTS, Settings

CPU_REQUESTS = 32  # per CPU
QUEUE_S, CPU_QUEUE_S = 14_400.0, 3_600.0  # the maximum, and the limit per CPU
TEXT_BYTES = 64 << 20  # of all forms; kept in memory until their requests end
SMALL_UPLOAD_SHARE = 8  # the last eighth is reserved for small uploads


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that clients share. `unit` and `fullness` complete the sentences of errors."""

    name: str  # as metrics call it
    quota: Quota
    unit: str
    fullness: str
    has_reserve: bool = True  # for small uploads

    @property
    def reserve(self) -> float:
        return self.quota.total // SMALL_UPLOAD_SHARE if self.has_reserve else 0.0


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Quotas of concurrent work, and the longest recording that counts, in seconds."""

    requests: Quota
    uploads: Quota
    upload_bytes: Quota
    spool_bytes: Quota
    text_bytes: Quota
    queue_s: Quota
    audio_s: float

    @classmethod
    def of(cls, settings: Settings, *, cpus: int | None) -> "AdmissionLimits":
        """Take the limits from `settings`; unset ones depend on the number of CPUs (None for a GPU)."""
        requests = settings.max_requests or min(MOST_REQUESTS, CPU_REQUESTS * (cpus or MOST_REQUESTS))
        queue_s = settings.max_queue_seconds or min(QUEUE_S, CPU_QUEUE_S * (cpus or QUEUE_S))
        return cls(
            requests=Quota.halved(requests, settings.max_requests_per_client),
            uploads=Quota.halved(settings.max_uploads or requests),
            upload_bytes=Quota.halved(settings.uploads_bytes),
            spool_bytes=Quota.halved(settings.spool_bytes),
            text_bytes=Quota.halved(TEXT_BYTES),
            queue_s=Quota.halved(queue_s, settings.max_queue_seconds_per_client),
            audio_s=settings.max_audio_seconds,
        )


class Resources:
    """What the quotas of `AdmissionLimits` limit."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self.requests = Resource(
            "requests",
            limits.requests,
            "concurrent requests",
            "too many requests in progress (SOTTO_MAX_REQUESTS)",
        )
        self.uploads = Resource(
            "uploads",
            limits.uploads,
            "concurrent uploads",
            "too many uploads in progress (SOTTO_MAX_UPLOADS)",
        )
        self.upload_bytes = Resource(
            "upload_bytes", limits.upload_bytes, "bytes of uploads", "no space left for uploads (SOTTO_UPLOADS_MB)"
        )
        self.spool_bytes = Resource(
            "spool_bytes",
            limits.spool_bytes,
            "bytes of decoded audio",
            "no space left for decoded audio (SOTTO_SPOOL_MB)",
        )
        self.text_bytes = Resource(
            "text", limits.text_bytes, "bytes of text in forms", "no memory left for the text of forms", False
        )
        self.queue_s = Resource(
            "queue",
            limits.queue_s,
            "seconds of audio waiting",
            "too much audio waiting (SOTTO_MAX_QUEUE_SECONDS)",
            False,
        )
