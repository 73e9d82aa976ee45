"""Whether a task still has an owner: a rank without one ends at once and writes nothing more."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from model.specs import Owner

EXIT_ORPHANED = 97
"""Exit code of a rank that ended itself because its owner is gone."""
DUMP_REQUEST = "dump-stacks"

_PR_SET_PDEATHSIG = 1
_orphaned = threading.Event()


def watch(owner: Owner | None, folder: Path, rank: int = 0) -> None:
    """End this process when its owner is gone, from a thread of its own.

    The kernel kills this rank when its parent (the launcher's daemon on this node) dies; the thread
    covers an owner on another node: `revoked` appears, or the heartbeat's count stands still.

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
    """The owner's heartbeat, judged by its count on our own clock: clocks of two nodes are never compared."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._count: int | None = None
        self._moved = time.monotonic()

    def is_silent(self) -> bool:
        """Return whether the count has stood still (or been unreadable) for the time to live."""
        count = self._read()
        if count is not None and count != self._count:
            self._count, self._moved = count, time.monotonic()
        return time.monotonic() - self._moved > self._owner.ttl_s

    def _read(self) -> int | None:
        try:
            return int(json.loads(self._owner.heartbeat.read_bytes())["count"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _watch(owner: Owner | None, folder: Path, rank: int) -> None:
    heartbeat = _Heartbeat(owner) if owner else None
    period_s = min(1.0, owner.ttl_s / 8) if owner else 1.0
    dumped_at = 0.0
    while True:
        if owner is not None and heartbeat is not None:
            if owner.revoked.exists():
                _end("revoked")
            if heartbeat.is_silent():
                _end(f"the owner's heartbeat stood still for {owner.ttl_s} s")
        dumped_at = _dump_stacks_on_request(folder, rank, dumped_at)
        time.sleep(period_s)


def _end(reason: str) -> None:
    _orphaned.set()
    sys.stderr.write(f"ended by the owner watch: {reason}\n")
    sys.stderr.flush()
    os._exit(EXIT_ORPHANED)


def _dump_stacks_on_request(folder: Path, rank: int, dumped_at: float) -> float:
    try:
        asked_at = (folder / DUMP_REQUEST).stat().st_mtime
    except OSError:
        return dumped_at
    if asked_at != dumped_at:
        with open(folder / f"stacks.{rank}.txt", "w") as file:
            faulthandler.dump_traceback(file=file, all_threads=True)
    return asked_at


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between the two lines: no signal will come
        _end("the parent process is gone")
