"""Watch one running call: ask it to stop, notice that it stands still, end it when it must end."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from model.outcome import CampaignError, read_json
from model.silence import Silence
from workflow.allocation.deadline import Deadline
from workflow.allocation.guard import END, KILL_ALL
from workflow.allocation.judge import Stopped
from workflow.site import Periods

PROGRESS_FILE, STOP_FILE, DUMP_FILE = "progress.json", "stop", "dump-stacks"
_LOOK_S = 0.5
_DUMP_S = 5.0  # ranks look for the request every 4 s (model/owner.py)
_UNKILLABLE_S = 60.0  # a process that waits for a dead disk outlives even KILL


class Watch:
    """The agent's eye on one call.

    Args:
        folder: Task folder.
        ranks: Ranks of the call.
        deadline: When the allocation stops.
        periods: Periods of the site.
        revoked: Set when the attempt has lost its right to have effect.
        ended: Set when the allocation ends whatever its tasks do.
    """

    def __init__(
        self, folder: Path, ranks: int, deadline: Deadline, periods: Periods, revoked: threading.Event, ended: threading.Event
    ) -> None:
        self.stopped: Stopped | None = None
        self._folder, self._ranks, self._deadline = folder, ranks, deadline
        self._revoked, self._ended = revoked, ended
        self._silence, self._stalled_s = Silence(), periods.stalled_s
        self._grace_s = deadline.grace_s
        self._hopeless_at = float("inf")

    def wait(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return the exit code when all processes are gone, or None when even KILL does not end them."""
        while time.monotonic() < self._hopeless_at:
            try:
                code = process.wait(_LOOK_S)
                return code if code >= 0 else 128 - code
            except subprocess.TimeoutExpired:
                self._look(process)
        return None

    def _look(self, process: subprocess.Popen[bytes]) -> None:
        if self._revoked.is_set():
            self._end(process, Stopped.REVOKED, at_once=True)
        elif self._ended.is_set():
            self._end(process, Stopped.ENDED, at_once=True)
        elif self.stopped is not None:
            return
        elif self._deadline.must_kill:
            self._end(process, Stopped.DEADLINE)
        elif self._is_stalled():
            self._save_stacks()
            self._end(process, Stopped.STALLED)
        elif self._deadline.is_due:
            (self._folder / STOP_FILE).touch()

    def _is_stalled(self) -> bool:
        """Say whether the task's count was watched standing still for too long; one that is not there stands still too."""
        count = read_progress(self._folder / PROGRESS_FILE).get("count")
        self._silence = self._silence.look(count, time.monotonic(), _LOOK_S, self._stalled_s)
        return self._silence.stood_s > self._stalled_s

    def _end(self, process: subprocess.Popen[bytes], why: Stopped, *, at_once: bool = False) -> None:
        self.stopped = self.stopped or why
        self._hopeless_at = min(self._hopeless_at, time.monotonic() + self._grace_s + _UNKILLABLE_S)
        process.send_signal(KILL_ALL if at_once else END)

    def _save_stacks(self) -> None:
        (self._folder / DUMP_FILE).touch()
        give_up = time.monotonic() + _DUMP_S
        while time.monotonic() < give_up and len(list(self._folder.glob("stacks.*.txt"))) < self._ranks:
            time.sleep(0.1)


def read_progress(path: Path) -> dict[str, Any]:
    """Return a task's progress; empty where there is none that can be read."""
    try:
        value = read_json(path)
    except (OSError, CampaignError):
        return {}
    return value if isinstance(value, dict) else {}
