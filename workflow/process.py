"""Name a process so that no later one can be taken for it: host, boot, namespace, pid, start time."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_START = 19  # field 22 of /proc/<pid>/stat, counted behind the command's closing bracket (proc(5))


@dataclass(frozen=True)
class ProcessId:
    """One process of one boot of one host.

    Attributes:
        host: Host name; for people.
        boot: Kernel's boot id.
        space: PID namespace; the same number means another process in another namespace.
        pid: Process id.
        start: Start time in clock ticks since boot.
    """

    host: str
    boot: str
    space: str
    pid: int
    start: int

    @staticmethod
    def own() -> ProcessId:
        """Return the identity of the calling process."""
        return _own(os.getpid())

    def is_proven_dead(self) -> bool:
        """Say whether this observer can prove at once that the process has ended.

        From another host, boot or namespace nothing can be proven at once.
        """
        if (self.boot, self.space) != (_boot(), _space()):
            return False
        return start_time(self.pid) != self.start

    def is_proven_alive(self) -> bool:
        """Say whether this observer sees the process run; from another host, boot or namespace it does not."""
        return (self.boot, self.space) == (_boot(), _space()) and start_time(self.pid) == self.start

    def is_of_an_earlier_boot(self) -> bool:
        """Say whether this host has started anew since; two hosts of one name that share files deceive this."""
        return self.host == socket.gethostname() and self.boot != _boot()

    def fields(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def start_time(pid: int) -> int | None:
    """Return a process's start time in ticks, or None where no such process runs (zombies do not run)."""
    fields = stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[_START])


def parent(pid: int) -> int | None:
    """Return the parent's pid, or None where no such process is."""
    fields = stat(pid)
    return None if fields is None else int(fields[1])


def stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on, or None."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def pids() -> list[int]:
    """List the processes that this namespace shows."""
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]


def carriers(mark: str) -> list[int]:
    """List running processes of this user whose environment holds `mark` (`NAME=value`)."""
    return [pid for pid in pids() if start_time(pid) is not None and _carries(pid, mark.encode())]


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


@cache
def _own(pid: int) -> ProcessId:
    return ProcessId(socket.gethostname(), _boot(), _space(), pid, start_time(pid) or 0)


@cache
def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _space() -> str:
    return str((_PROC / "self/ns/pid").readlink())
