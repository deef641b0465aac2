"""The record of a finished request: a line of the log, and the source of its metrics.

Contains nothing that was said in the recording, unless the operator asks for it. Independent of HTTP.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Ending = Literal["completed", "rejected", "failed", "disconnected"]


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """A finished request; `why` is set unless it was completed or its client disconnected.

    `path` is as the client wrote it, `route` the template that matches it, empty if none does. The other fields
    are for transcriptions: `model` is the name of the model served, `audio_s` the audio decoded, `done_s` the
    part of it transcribed, `wait_s` the time until the model began, `run_s` from there to the end. `text` and
    `prompt` are None unless they are to be logged. `left_out` is how many similar lines of the client precede this
    one that were not logged.
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
    left_out: int | None = None

    def __str__(self) -> str:
        """One line of the log; the fields that every request has come first."""
        parts = [f"{self.status} {self.total_s:8.3f}s {self.method} {self.path} {self.client}"]
        parts += [f"({self.key})"] if self.key else []
        parts += [self.model] if self.model else []
        times = {"audio": self.audio_s, "wait": self.wait_s, "run": self.run_s}
        parts += [f"{name} {value:.3f}s" for name, value in times.items() if value is not None]
        parts.append(f"in {self.in_bytes} out {self.out_bytes}")
        parts += [] if self.ended == "completed" else [f"{self.ended}: {self.why}" if self.why else self.ended]
        texts = {"prompt": self.prompt, "text": self.text}
        parts += [f'{name} "{value}"' for name, value in texts.items() if value is not None]
        parts += [f"({self.left_out} like it before were left out)"] if self.left_out else []
        return " ".join(parts)

    def fields(self) -> dict[str, Any]:
        """Return the fields under unique names, without absent ones; times are rounded to milliseconds."""
        present = {name: value for name, value in asdict(self).items() if value is not None and value != ""}
        times = {name: round(value, 3) for name, value in present.items() if isinstance(value, float)}
        return {"message": f"{self.method} {self.path} {self.status}"} | present | times
