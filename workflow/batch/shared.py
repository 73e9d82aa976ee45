"""One answer of the batch system for all drivers of a user on a login node: facilities ask to be asked gently."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workflow.batch.scheduler import JobRow, JobSpec, JobState, Scheduler, Snapshot
from workflow.errors import SchedulerError
from workflow.process import ProcessId

logger = logging.getLogger(__name__)
_FORMAT = 1
_USABLE = 0.99  # share of a poll that an answer stands for: a driver's own last one is too old at its next poll
_LOOK_S = 0.1


class Shared(Scheduler):
    """A batch system whose answers are kept for a user's other drivers on this host until the next poll is due.

    An answer counts only if it was asked for after this driver's own last change, so that a job just submitted is never
    missed in an older one. Two answers that together prove an absence are so much nearer in time than the site's window
    as an answer may be old: less than one poll.

    Args:
        inner: The batch system.
        folder: Folder of this user alone, on a local disk.
    """

    def __init__(self, inner: Scheduler, folder: Path) -> None:
        super().__init__(inner.site)
        name = hashlib.sha256(f"{_FORMAT}\0{inner.site.name}\0{inner.server}".encode()).hexdigest()[:16]
        self._inner, self._path = inner, folder / f"{name}.json"
        self._changed, self._boot = 0.0, ProcessId.own().boot

    @property
    def server(self) -> str:
        """Which batch system it is."""
        return self._inner.server

    def submit(self, spec: JobSpec) -> str:
        """Hand in a job; answers asked for before count no more."""
        try:
            return self._inner.submit(spec)
        finally:
            self._changed = time.monotonic()

    def cancel(self, job_id: str, token: str) -> None:
        """Ask for the end of a job; answers asked for before count no more."""
        try:
            self._inner.cancel(job_id, token)
        finally:
            self._changed = time.monotonic()

    def snapshot(self) -> Snapshot:
        """Return what another driver was told a moment ago, or ask."""
        with self._turn():
            kept = self._kept()
            if kept is None:
                kept = self._asked()
                self._keep(kept)
        if kept["fault"] is not None:
            raise SchedulerError(kept["fault"], "", "It is asked again.")
        rows = tuple(JobRow(**{**fields, "state": JobState(fields["state"])}) for fields in kept["rows"])
        return Snapshot(rows, kept["is_complete"])

    def _asked(self) -> dict[str, Any]:
        answer = {"boot": self._boot, "asked": time.monotonic(), "fault": None, "rows": [], "is_complete": False}
        try:
            snapshot = self._inner.snapshot()
        except SchedulerError as error:  # whoever comes next would hear the same
            return {**answer, "fault": error.what}
        return {**answer, "rows": [asdict(row) for row in snapshot.rows], "is_complete": snapshot.is_complete}

    def _kept(self) -> dict[str, Any] | None:
        """Return the last answer, if it can stand for a new one."""
        try:
            kept: dict[str, Any] = json.loads(self._path.read_text())
            age_s = time.monotonic() - float(kept["asked"])
            is_fresh = kept["boot"] == self._boot and 0 <= age_s < _USABLE * self.site.scheduler.poll_s
            return kept if is_fresh and kept["asked"] > self._changed else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _keep(self, answer: dict[str, Any]) -> None:
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps(answer))
            beside.replace(self._path)
        except OSError:  # a full disk costs a query, and nothing else
            logger.debug("an answer was not kept", exc_info=True)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Let drivers ask one after another; one that stands still keeps nobody for long."""
        try:
            handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield
            return
        try:
            until = time.monotonic() + self.site.scheduler.command_timeout_s
            while not _taken(handle) and time.monotonic() < until:
                time.sleep(_LOOK_S)
            yield
        finally:
            os.close(handle)


def shared(inner: Scheduler) -> Scheduler:
    """Return a batch system whose answers all drivers of this user on this host share, where it is a server's."""
    folder = Path(tempfile.gettempdir()) / f"campaign-queries-{os.getuid()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700)
    return Shared(inner, folder) if inner.is_server and _is_ours(folder) else inner


def _is_ours(folder: Path) -> bool:
    """Say whether a folder below a world-writable one was made by this user, and is closed to others."""
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
