"""A model that takes its engine's process over while it is loaded, and tells what it could do there."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from server.errors import ModelUnavailable


@dataclass(frozen=True)
class PryingLoader:
    """`secret` is a file elsewhere, `port` one on which the test listens, `process` the test's own."""

    folder: Path
    secret: Path
    port: int
    process: int

    def load(self) -> NoReturn:
        attempts: dict[str, Callable[[], object]] = {
            "its model": lambda: (self.folder / "model.bin").read_bytes(),
            "a library": lambda: __import__("wave"),
            "read": self.secret.read_bytes,
            "list": lambda: list(self.secret.parent.iterdir()),
            "write": lambda: self.secret.with_suffix(".new").touch(),
            "write its model": lambda: (self.folder / "model.bin").write_bytes(b""),
            "remove": self.secret.unlink,
            "start": lambda: os.posix_spawn("/bin/true", ["true"], {}),
            "connect": lambda: socket.create_connection(("127.0.0.1", self.port)).close(),
            "signal": lambda: os.kill(self.process, 0),
            "environment": lambda: Path(f"/proc/{self.process}/environ").read_bytes(),
        }
        raise ModelUnavailable("done: " + ", ".join(name for name, act in attempts.items() if _succeeds(act)))


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True
