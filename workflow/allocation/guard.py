"""Run one launcher call so that none of its processes outlives this process or the agent: a command of its own.

`python guard.py PARENT GRACE_S ARGV...` starts ARGV and ends, with ARGV's exit code (128 + n for signal n), only
when every process that came of it is gone. A launcher puts its ranks into sessions of their own, so no process
group reaches them; the guard is their subreaper instead and finds them below itself, whatever they did.

END: all descendants get TERM, after GRACE_S seconds KILL. KILL_ALL, and the parent's death: all get KILL at once.
These are real-time signals of our own, and all others wait: a batch system that signals every process of a job must
not make the guard cut short the time that the ranks have to checkpoint.

It imports the standard library only, and nothing of this package: it starts once for every task.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
END, KILL_ALL = signal.SIGRTMIN, signal.SIGRTMIN + 1
_AWAITED = {signal.SIGCHLD, END, KILL_ALL}
_BLOCKED = {*_AWAITED, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
_LOOK_S, _IDLE_S = 0.1, 60.0
_STRAGGLERS_S = 2.0  # how long helpers of the launcher may take to end after it


def main(argv: list[str]) -> int:
    """Guard one launcher call; see the module's docstring."""
    parent, grace_s, command = int(argv[1]), float(argv[2]), argv[3:]
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    adopt_orphans()
    _prctl(_PR_SET_PDEATHSIG, KILL_ALL)
    if os.getppid() != parent:  # it died before the line above
        return 128 + signal.SIGKILL
    return Guard(command, grace_s).wait()


class Guard:
    """One launcher call and all that comes of it."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self.grace_s = grace_s
        self.kill_at = float("inf")
        self.code: int | None = None
        # The object must live as long as we wait: when it goes, it reaps its process, and the exit code with it.
        self.launcher = _start(command)
        if self.launcher is None:
            self.code = 127  # what a shell says of a command that is not there

    def wait(self) -> int:
        """Return the launcher's exit code when no descendant is left."""
        while True:
            self._reap()
            ending = self.code is not None or self.kill_at < float("inf")
            left = descendants(os.getpid()) if ending else []  # reading all of /proc is too dear to do all the time
            if self.code is not None and not left:
                return self.code
            if time.monotonic() >= self.kill_at:
                _signal(left, signal.SIGKILL)
            self._obey(signal.sigtimedwait(_AWAITED, _LOOK_S if ending else _IDLE_S))

    def _obey(self, received: signal.struct_siginfo | None) -> None:
        number = received.si_signo if received else None
        if number == KILL_ALL:
            self.kill_at = 0.0
        elif number == END:
            self._ask_all_to_end(self.grace_s)

    def _ask_all_to_end(self, grace_s: float) -> None:
        _signal(descendants(os.getpid()), signal.SIGTERM)
        self.kill_at = min(self.kill_at, time.monotonic() + grace_s)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.launcher is not None and pid == self.launcher.pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code
                self.kill_at = min(self.kill_at, time.monotonic() + _STRAGGLERS_S)


def adopt_orphans() -> None:
    """Make this process the parent of all orphans below it, so that `descendants` finds them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants(patience_s: float = 10.0) -> set[int]:
    """Kill every process below this one until none is left or none dies any more; return which ones there were."""
    found: set[int] = set()
    give_up = time.monotonic() + patience_s
    while (left := descendants(os.getpid())) and time.monotonic() < give_up:
        _signal(left, signal.SIGKILL)
        found.update(left)
        time.sleep(_LOOK_S)
    return found


def descendants(root: int) -> list[int]:
    """Return the ids of all living processes below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found


def _parents() -> list[tuple[int, int]]:
    rows = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # The second field is the program's name in brackets, and may hold anything: count from its end.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if fields[0] not in "ZX":
                rows.append((int(folder.name), int(fields[1])))
    return rows


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    try:
        # preexec_fn is safe here, and only here: the guard has one thread.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_as_child(os.getpid()))
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        return None


def _as_child(guard: int) -> Callable[[], None]:
    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _BLOCKED)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(128 + signal.SIGKILL)

    return prepare


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
