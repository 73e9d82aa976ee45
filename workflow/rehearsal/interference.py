"""What a rehearsal does to a running job: kill it once, and once tell it that its time is up."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

from model.outcome import read_json
from workflow.process import ProcessId
from workflow.rundir import AttemptDir, RunDir

_LOOK_S = 0.05


class Interference(threading.Thread):
    """Watch a stage instance: kill its first job after its first checkpoint, end its next one as a walltime does.

    Args:
        folder: The campaign's folder.
        key: Stage instance.
        checkpoints: Pattern, below an attempt's tasks, of what must stand before a job is disturbed.
        warns: Whether the next job is to end early too; there must be links enough.

    Attributes:
        key: As given.
        killed: Whether the agent of the first job was killed.
        warned: Whether that of the next one was told that its time is up.
    """

    def __init__(self, folder: Path, key: str, checkpoints: str, *, warns: bool) -> None:
        super().__init__(name="interference", daemon=True)
        self.key, self.killed, self.warned = key, False, False
        self._rundir, self._checkpoints, self._warns = RunDir(folder), checkpoints, warns
        self._over = threading.Event()

    def run(self) -> None:
        """Wait for the moments, one after the other."""
        first = self._rundir.attempt(self.key, 1, 1)
        self.killed = self._disturb(first, signal.SIGKILL)
        if self.killed and self._warns and (following := self._started_after(first)) is not None:
            self.warned = self._disturb(following, signal.SIGUSR1)

    def end(self) -> None:
        """Give up waiting."""
        self._over.set()
        self.join()

    def _started_after(self, first: AttemptDir) -> AttemptDir | None:
        """Return the attempt that goes on: the next one at this link, or the next link where that is in the queue already."""
        while not self._over.wait(_LOOK_S):
            started = [each for each in self._rundir.attempts(self.key) if each.root != first.root and each.start.exists()]
            if started:
                return started[0]
        return None

    def _disturb(self, attempt: AttemptDir, number: signal.Signals) -> bool:
        """Send a signal to an attempt's agent once a checkpoint of its own stands; say whether it was sent."""
        while not self._over.wait(_LOOK_S):
            if attempt.receipt.exists():
                return False
            if any(attempt.tasks.glob(self._checkpoints)):
                return self._send(attempt, number)
        return False

    def _send(self, attempt: AttemptDir, number: signal.Signals) -> bool:
        start = read_json(attempt.start) or {}
        try:
            agent = ProcessId(**{name: start[name] for name in ProcessId.own().fields()})
        except KeyError:
            return False
        if agent.is_proven_dead():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent.pid, number)
            return True
        return False
