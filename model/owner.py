"""Whether a task still has an owner: a rank without one ends at once and writes nothing more."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path
from random import Random

from model.silence import Silence
from model.specs import Owner

EXIT_ORPHANED = 97
"""Exit code of a rank that ended itself because its owner is gone."""
DUMP_REQUEST = "dump-stacks"

_PR_SET_PDEATHSIG = 1
_DUMP_LOOK_S = 4.0  # below the time for which an agent waits for stacks (workflow/allocation/watch.py)
_LOOKS = 8  # at the owner, in one time to live
_SPREAD = 0.8  # the shortest time between two looks, as a share of the longest
_orphaned = threading.Event()


def watch(owner: Owner | None, folder: Path, rank: int = 0) -> None:
    """End this process when its owner is gone, from a thread of its own.

    The kernel kills this rank when its parent (the launcher's daemon on this node) dies; the thread
    covers an owner on another node: `revoked` appears, or the heartbeat stands still. It looks eight times in a time to
    live, and only at metadata: all ranks of a machine look into one folder. That a rank without a right has no effect
    does not rest on it: no attempt is replaced before it is revoked, and `require_commit` looks at that very moment.

    Args:
        owner: None for a task run by hand, which nobody watches.
        folder: Task folder; a file `dump-stacks` in it asks for `stacks.<rank>.txt`.
        rank: This rank.
    """
    if owner is not None:
        _die_with_parent()
    threading.Thread(target=_watch, args=(owner, folder, rank), name="owner-watch", daemon=True).start()


def may_commit(owner: Owner | None) -> bool:
    """Say whether this task may still have an effect; asked before every rename of an output."""
    return owner is None or not (_orphaned.is_set() or owner.revoked.exists())


def require_commit(owner: Owner | None) -> None:
    """End this process at once, writing nothing, where `may_commit` says no."""
    if not may_commit(owner):
        _end("revoked before a commit")


class StopFlag:
    """Whether the task is asked to checkpoint and end: the stop file, SIGTERM or SIGUSR1.

    The answer is this rank's own; the ranks share it through a collective that happens anyway.
    """

    def __init__(self, stop: Path | None, *, looks: bool = True, every_s: float = 1.0) -> None:
        self._stop = stop if looks else None
        self._every_s = every_s
        self._next_look = 0.0
        self._asked = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)
            signal.signal(signal.SIGUSR1, self._on_signal)

    def asked(self) -> bool:
        """Return whether a stop was asked for; looks at the file at most once in `every_s`."""
        now = time.monotonic()
        if not self._asked and self._stop is not None and now >= self._next_look:
            self._next_look = now + self._every_s
            self._asked = self._stop.exists()
        return self._asked

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._asked = True


class _Heartbeat:
    """The owner's heartbeat, judged on our own clock by whether its file is another: clocks of two nodes are never compared.

    Each beat is a new file, renamed into place: tens of thousands of ranks need not read the names of all nodes in it.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner, self._silence, self._must_open = owner, Silence(), False

    def is_silent(self) -> bool:
        """Return whether the file was watched standing still (or out of reach) for the time to live."""
        ttl_s, last = self._owner.ttl_s, self._silence.count
        seen = self._opened() if self._must_open else _identity(self._owner.heartbeat)
        if seen == last and self._silence.stood_s >= ttl_s / 2:
            told, seen = seen, self._opened()
            self._must_open |= seen != told
        self._silence = self._silence.look(seen or last, time.monotonic(), ttl_s / _LOOKS, ttl_s)
        return self._silence.stood_s >= ttl_s

    def _opened(self) -> tuple[int, ...] | None:
        """Look past attributes that this node may remember for a while: a file system asks its server on opening."""
        try:
            with open(self._owner.heartbeat, "rb") as file:
                return _told(os.fstat(file.fileno()))
        except OSError:
            return None


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what differs between any two states of a file, of its metadata alone; None where there is none to see."""
    try:
        return _told(path.stat())
    except OSError:  # one that cannot be looked at is no news
        return None


def _told(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _watch(owner: Owner | None, folder: Path, rank: int) -> None:
    heartbeat = _Heartbeat(owner) if owner else None
    period_s = owner.ttl_s / _LOOKS if owner else _DUMP_LOOK_S
    step_s, rng = min(period_s, _DUMP_LOOK_S), Random()  # noqa: S311 of its own: a training must not feel it
    look_at = dump_at = 0.0
    dumped = None
    while True:
        now = time.monotonic()
        if owner is not None and heartbeat is not None and now >= look_at:
            look_at = now + period_s * _SPREAD
            if _identity(owner.revoked) is not None:
                _end("revoked")
            if heartbeat.is_silent():
                _end(f"the owner's heartbeat stood still for {owner.ttl_s} s")
        if now >= dump_at:
            dump_at = now + _DUMP_LOOK_S * _SPREAD
            dumped = _dump_stacks_on_request(folder, rank, dumped)
        time.sleep(rng.uniform(_SPREAD, 1.0) * step_s)  # ranks that began together do not look together


def _end(reason: str) -> None:
    _orphaned.set()
    sys.stderr.write(f"ended by the owner watch: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_ORPHANED)


def _dump_stacks_on_request(folder: Path, rank: int, dumped: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Show this rank's stacks where that is asked for anew; return the request that was followed last."""
    asked = _identity(folder / DUMP_REQUEST)
    if asked is None or asked == dumped:
        return dumped
    with open(folder / f"stacks.{rank}.txt", "w") as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
    return asked


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between the two lines: no signal will come
        _end("the parent process is gone")
