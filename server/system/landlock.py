"""Landlock: the files that this process, and what it starts, may use from now on. Linux 5.13 and later.

Everything else is out of reach, and so is TCP from 6.7 on; from 6.12 also signals to other processes and abstract
Unix sockets. Without Landlock nothing is restricted. It holds for the thread that calls and those that it starts.
"""

import ctypes
import json
import os
import stat
import struct
import sys
from dataclasses import asdict, dataclass
from typing import Self

CREATE_RULESET, ADD_RULE, RESTRICT_SELF, GET_VERSION = 444, 445, 446, 1  # linux/landlock.h, on every architecture
PATH_BENEATH = 1
FILE_RIGHTS = (0, 13, 14, 15, 15, 16)  # number of file rights, by Landlock version
NET_RIGHTS, NET_SINCE = 0b11, 4  # bind and connect by TCP
SCOPES, SCOPES_SINCE = 0b11, 6  # abstract Unix sockets, signals
PR_SET_NO_NEW_PRIVS = 38  # sys/prctl.h

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
READ = READ_FILE | READ_DIR
USE = READ | WRITE_FILE | IOCTL_DEVICE
CHANGE = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_FILE
OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEVICE  # the others are rights of folders

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class FileAccess:
    """Files, and folders with all in them: to read, to use as devices, to change. Others can't be opened."""

    reads: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**{name: tuple(paths) for name, paths in json.loads(text).items()})


NOTHING = FileAccess()


def landlock_version() -> int:
    """The Landlock version of the kernel; 0 if it has none."""
    version: int = _libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), GET_VERSION)
    return max(0, version)


def restrict_to(access: FileAccess) -> None:
    """Restrict this thread to `access`, without paths that don't exist. Raises OSError if the kernel refuses."""
    version = landlock_version() if sys.platform == "linux" else 0
    if not version:
        return
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    files = (1 << FILE_RIGHTS[min(version, len(FILE_RIGHTS) - 1)]) - 1
    net = NET_RIGHTS if version >= NET_SINCE else 0
    scopes = SCOPES if version >= SCOPES_SINCE else 0
    attributes = struct.pack("QQQ", files, net, scopes)  # trailing zeros are accepted by older kernels
    ruleset = _checked(_libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    for paths, rights in ((access.reads, READ), (access.devices, USE), (access.changes, CHANGE)):
        for path in paths:
            _allow(ruleset, path, rights & files)
    _checked(_libc.syscall(RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
    rule = struct.pack("=Qi", rights if is_folder else rights & OF_FILES, opened)
    _checked(_libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0))
    os.close(opened)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "the kernel rejected the Landlock rules")
    return result
