"""Child processes: started from a clean interpreter, connected by a socket, and reliably terminated.

Knows nothing of their work. Start one by `ChildProcess`; the child calls `attach` first. No child outlives its
parent, however that exits. Windows has neither these sockets nor the limits that children are used for.
"""

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack

from server.system.landlock import FileAccess, restrict_to
from server.system.sandbox import READ_ANY_FILE, drop_capabilities

NICENESS = 5  # below the parent, which must respond while they compute
LIFELINE = 0  # the child's stdin: a pipe that is never written to and that closes with the parent
# numpy's two select CPU features, and with them the last bits of results, which processes must agree on.
ENVIRONMENT = (
    "PATH LD_LIBRARY_PATH DYLD_LIBRARY_PATH PYTHONHOME PYTHONDONTWRITEBYTECODE LANG LC_ALL TZ TMPDIR"
    " NPY_DISABLE_CPU_FEATURES NPY_ENABLE_CPU_FEATURES"
).split()

# The parent's import path: with -m, a folder `server` in the working directory would be imported instead.
_START = """
import runpy, sys
sys.path[:] = sys.argv.pop().split("\\n")
from server.system.child_process import hold_to_parent, restrict
hold_to_parent()
restrict(sys.argv.pop())
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def clean_environment() -> dict[str, str]:
    """The part of this process's environment that a child needs: no setting, no key, no token."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


class ChildProcess:
    """A process that runs the module of that dotted name; `channel` is a Unix socket of type `kind` to it."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        kind: int = socket.SOCK_STREAM,
        access: FileAccess | None = None,
    ) -> None:
        """With `access` it can open nothing else from its start on, where the kernel has Landlock."""
        self.channel, theirs = socket.socketpair(type=kind)
        command = [
            sys.executable,
            "-P",
            "-c",
            _START,
            module,
            str(theirs.fileno()),
            *arguments,
            access.json() if access else "",
            "\n".join(sys.path),
        ]
        with theirs, ExitStack() as unless_started:
            unless_started.enter_context(self.channel)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # without the terminal: who controls it can type into its shell (TIOCSTI)
                env=dict(environment),
            )
            unless_started.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status (negative: the signal that ended it); None while it runs."""
        return self._process.poll()

    def wait(self, within_s: float) -> int | None:
        """The exit status, None if it is still running after `within_s` seconds."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill it, in any state; from any thread, and repeatedly. `close` must still be called."""
        self._process.kill()

    def close(self, within_s: float = 0.0) -> int:
        """Close the channel, kill it unless it exits within `within_s` seconds, and return its exit status."""
        self.channel.close()
        if self.wait(within_s) is None:
            self._process.kill()
        if self._process.stdin:
            self._process.stdin.close()
        return self._process.wait()


def described(status: int) -> str:
    """Describe how a process ended."""
    if status >= 0:
        return f"it ended with status {status}"
    return f"it was ended by {_name(-status)}"


def _name(number: int) -> str:
    """Name of a signal; most real-time signals have none."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def hold_to_parent() -> None:
    """Make this child end with its parent, and ignore other stop signals. Call before a module's heavy imports."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the parent decides how to react
        signal.signal(stop, signal.SIG_IGN)
    os.nice(NICENESS)
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, fcntl.fcntl(LIFELINE, fcntl.F_GETFL) | os.O_ASYNC)  # SIGIO: to exit
    if select.select([LIFELINE], [], [], 0)[0]:  # the parent ended before the signal was enabled
        os._exit(0)


def restrict(access: str) -> None:
    """Restrict this child to a `FileAccess` in JSON, if given. Call before a library starts threads."""
    if access:
        restrict_to(FileAccess.from_json(access))
        drop_capabilities(keep=READ_ANY_FILE)  # models of other users, as before


def attach(*, thread: bool = True) -> tuple[socket.socket, list[str]]:
    """In a child: return its end of the channel, and its arguments.

    With `thread` a thread also watches for the parent's exit, in case a library has replaced the signal handler.
    Without it the child may fork.
    """
    if thread:
        threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    _, channel, *arguments = sys.argv
    return socket.socket(fileno=int(channel)), arguments


def _end_with_parent() -> None:
    os.read(LIFELINE, 1)
    os._exit(0)
