"""A request that was admitted, and what it holds until it ends."""

from typing import Protocol

from server.options import INTERACTIVE_S, SMALL_BYTES

UPLOAD_STEP_BYTES = 64 << 20  # room for an upload is reserved in steps as it arrives, not for all that it declares
LITTLE_TEXT_BYTES = 64 << 10  # per request, always accepted: enough for any prompt

# The length of a recording is not known before a decoder opens it, and for some formats not before it is decoded.
# Until then it counts as this: more than usual recordings have, and less than those made to hold days.
UNOPENED_BYTES_PER_S = 8_000
UNOPENED_S = (INTERACTIVE_S, 900.0)  # at least and at most


class RequestProgress(Protocol):
    """Progress of a transcription: audio done, audio left as far as it is known, and details for the log."""

    @property
    def done_s(self) -> float: ...

    @property
    def wait_s(self) -> float | None: ...

    @property
    def left_s(self) -> float: ...

    @property
    def knows_length(self) -> bool: ...

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


class Reservations(Protocol):
    """Where a ticket asks for more than it holds; both raise `Unavailable` and `RateLimited`."""

    def reserve_upload(self, ticket: "Ticket", size_bytes: int) -> None: ...

    def reserve_text(self, ticket: "Ticket") -> None: ...

    def look(self) -> None: ...


class Ticket:
    """An admitted request and the resources it holds until it ends. `deadline` is by the event loop's clock."""

    def __init__(
        self, admission: Reservations, client: str, declared_bytes: int, deadline: float | None = None
    ) -> None:
        """`declared_bytes` is 0 if the length of the upload is unknown."""
        self.client = client
        self.declared_bytes = declared_bytes
        self.small = 0 < declared_bytes <= SMALL_BYTES
        self.upload_bytes = min(declared_bytes, UPLOAD_STEP_BYTES)  # on disk or reserved there
        self.text_bytes = 0
        self.uploading = True
        self.deadline = deadline
        self.model = ""  # the model's name, once it is known
        self.work: RequestProgress | None = None
        self._admission = admission

    def receive(self, received_bytes: int, *, more: bool) -> None:
        """Record the bytes received; raises `Unavailable` or `RateLimited` if there is no room for more."""
        self.uploading = more
        self.small = self.small and received_bytes <= SMALL_BYTES
        if not more:
            self.upload_bytes = min(received_bytes, self.upload_bytes)
        if received_bytes > self.upload_bytes:
            step = min(received_bytes + UPLOAD_STEP_BYTES, self.declared_bytes)
            self._admission.reserve_upload(self, max(received_bytes, step))

    def keep_text(self, count: int) -> None:
        """Count text that the request keeps in memory. Raises as `receive`."""
        self.text_bytes += count
        if self.text_bytes > LITTLE_TEXT_BYTES:
            self._admission.reserve_text(self)

    def follow(self, work: RequestProgress) -> None:
        """Count the audio of `work` from here on."""
        self.work = work
        self._admission.look()

    def waiting_s(self, longest_s: float) -> float:
        """Seconds of audio not transcribed yet: an estimate until its length is known, and at most `longest_s`,
        since a file's header may claim anything."""
        if self.work is None or not self.work.knows_length:
            least, most = UNOPENED_S
            size = max(self.declared_bytes, self.upload_bytes)
            return min(max(least, size / UNOPENED_BYTES_PER_S), most, longest_s)
        return self.known_s(longest_s)

    def known_s(self, longest_s: float) -> float:
        """The same without an estimate: 0 until it is decoded."""
        return min(self.work.left_s, longest_s) if self.work else 0.0
