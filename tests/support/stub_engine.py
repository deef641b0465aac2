"""An engine's process that a model has taken over: once ready it sends what `sends` in its folder holds."""

import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from server.engine.loader import ModelFacts
from server.engine.messages import Ready, Start, encode
from server.system.child_process import attach


def main() -> None:
    channel, _ = attach()
    connection: Connection[bytes, list[Start]] = Connection(channel.detach())
    (start,) = connection.recv()
    folder = start.loader.folder  # type: ignore[attr-defined]
    connection.send_bytes(encode(Ready(ModelFacts(("en",), 80, "cpu", "int8", 0.0), 4, 100)))
    connection.send_bytes(Path(folder / "sends").read_bytes())
    threading.Event().wait()
    os._exit(0)


if __name__ == "__main__":
    main()
