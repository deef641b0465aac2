"""What `tests/system/test_child_process.py` starts: a child that does what its argument says."""

import os
import re
import signal
import socket
import sys

from server.system.child_process import attach


def main() -> None:
    if sys.argv[-1] == "loading":  # for ever, before it has attached
        socket.socket(fileno=int(sys.argv[1])).sendall(f"{os.getpid()}\n".encode())
        signal.pause()
    channel, (role,) = attach()
    channel.sendall(f"{os.getpid()}\n".encode())
    match role:
        case "echo":
            while data := channel.recv(100):
                channel.sendall(data)
        case "environment":
            channel.sendall("\n".join(os.environ).encode())
        case "path":
            channel.sendall("\n".join([os.getcwd(), *sys.path]).encode())
        case "deaf":  # to the end of its channel
            signal.pause()
        case "stuck":  # for ever, and no other thread runs meanwhile
            re.match("(a+)+$", "a" * 60 + "b")
        case "status":
            sys.exit(7)


if __name__ == "__main__":
    main()
