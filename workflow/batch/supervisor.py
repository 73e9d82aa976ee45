"""One local job's keeper: waits for its turn, runs the script, ends what is left, writes the accounting row."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model.outcome import sync, write_json
from workflow.batch.local import MARK, Spool
from workflow.batch.scheduler import JobState
from workflow.process import ProcessId, parent, pids

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)
_POLL_S = 0.2
_LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Detach, hand in the job that standard input describes, print its id, and keep it to its end."""
    asked = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.umask(0o077)
    spool = Spool(Path(asked.pop("spool")))
    number = _hand_in(spool, {**asked, "mark": uuid.uuid4().hex, "supervisor": ProcessId.own().fields()})
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()
    _detach()
    Supervisor(spool, number).run()


class Supervisor:
    """Keeps one job.

    Args:
        spool: The spool.
        number: The job's number.
    """

    def __init__(self, spool: Spool, number: int) -> None:
        self._spool, self._number = spool, number
        self._job = spool.job(number)
        self._started: float | None = None
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def run(self) -> None:
        """Tell the story of the job."""
        self._stand("queued")
        names = self._await_turn()
        if names is None:
            self._finish(JobState.CANCELLED, None, "cancelled in the queue")
            return
        state, code, reason = self._watch(self._start(names))
        _end_descendants()
        self._finish(state, code, reason)

    def _stand(self, state: str, **facts: Any) -> None:
        write_json(self._spool.path(self._number, "queue"), {"state": state, **facts})

    def _finish(self, state: JobState, code: int | None, reason: str) -> None:
        facts = {"state": state, "exit": code, "reason": reason, "started": self._started, "ended": time.time()}
        write_json(self._spool.path(self._number, "end"), facts)

    def _await_turn(self) -> list[str] | None:
        while not self._is_cancelled():
            if not _waits_for_another(self._spool, self._number):
                with _locked(self._spool):
                    names = self._free_nodes()
                    if names is not None:
                        self._started = time.time()
                        self._stand("running", nodes=names, started=self._started)
                        return names
            time.sleep(_POLL_S)
        return None

    def _free_nodes(self) -> list[str] | None:
        """Return this job's nodes if its turn has come: no earlier job that could start waits, enough are free."""
        free = [f"node{i}" for i in range(1, self._job["site_nodes"] + 1)]
        for number in self._spool.open_ids():
            if number == self._number or self._spool.end(number) is not None:
                continue
            queue = self._spool.queue(number)
            if queue.get("state") == "running":
                free = [name for name in free if name not in queue["nodes"]]
            elif number < self._number and not _waits_for_another(self._spool, number):
                return None
        return free[: self._job["nodes"]] if len(free) >= self._job["nodes"] else None

    def _start(self, names: list[str]) -> subprocess.Popen[bytes]:
        own = {
            "LOCAL_JOB_ID": str(self._number),
            "LOCAL_JOB_NODES": ",".join(names),
            "LOCAL_JOB_END": str((self._started or 0.0) + self._job["walltime_s"]),
            MARK: self._job["mark"],
        }
        supervisor = os.getpid()
        with open(self._job["log"], "ab") as log:
            return subprocess.Popen(
                ["/bin/sh", self._job["script"]],
                cwd=self._job["workdir"],
                env={**os.environ, **own},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: _die_with(supervisor),
            )

    def _watch(self, script: subprocess.Popen[bytes]) -> tuple[JobState, int | None, str]:
        """Wait for the script's end; ask for it when the walltime is over or a cancel came, then force it."""
        end = time.monotonic() + self._job["walltime_s"]
        asked: tuple[JobState, str] | None = None
        force_at = 0.0
        while (code := _poll(script)) is None:
            now = time.monotonic()
            if asked is None and (self._is_cancelled() or now >= end):
                asked = (JobState.TIMEOUT, "walltime") if now >= end else (JobState.CANCELLED, "cancelled")
                force_at = now + self._job["kill_wait_s"]
                _signal(_descendants(), signal.SIGTERM)
            elif asked is not None and now >= force_at:
                _signal(_descendants(), signal.SIGKILL)
            time.sleep(_POLL_S)
        code = code if code >= 0 else 128 - code
        if asked is not None:
            return asked[0], code, asked[1]
        return (JobState.COMPLETED if code == 0 else JobState.FAILED), code, f"exit code {code}"

    def _is_cancelled(self) -> bool:
        return self._spool.path(self._number, "cancel").exists()


def _waits_for_another(spool: Spool, number: int) -> bool:
    """Say whether a job waits for the end of one of those that it was to come after."""
    waits_for = spool.job(number).get("waits_for", [])
    return any(spool.path(each, "job").exists() and spool.end(each) is None for each in waits_for)


def _hand_in(spool: Spool, job: dict[str, Any]) -> int:
    """Give the job the next number; a link cannot replace a file, so no two jobs get the same one."""
    beside = spool.root / f".{job['mark']}"
    write_json(beside, job)
    number = max([*spool.ids(), _last(spool)], default=0) + 1
    while True:
        try:
            os.link(beside, spool.path(number, "job"))
            break
        except FileExistsError:
            number += 1
    beside.unlink()
    sync(spool.root)
    write_json(spool.root / "last", number)
    return number


def _last(spool: Spool) -> int:
    path = spool.root / "last"
    return int(path.read_text()) if path.exists() else 0


def _detach() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nothing, handle)


def _die_with(supervisor: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:  # it died before the kernel knew
        os._exit(1)


def _poll(script: subprocess.Popen[bytes]) -> int | None:
    """Return the script's exit code, or None while it runs; orphans that ended are reaped on the way."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if ended.si_pid == script.pid:
            return script.wait()
        os.waitpid(ended.si_pid, 0)
    return None


def _end_descendants() -> None:
    """Kill and reap until no process of the job is left, wherever it has put itself."""
    while True:
        _signal(_descendants(), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_POLL_S / 10)


def _descendants() -> list[int]:
    """List all processes below this one; orphans come here because it is their subreaper."""
    children: dict[int, list[int]] = {}
    for pid in pids():
        above = parent(pid)
        if above is not None:
            children.setdefault(above, []).append(pid)
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found.extend(below)
        queue.extend(below)
    return found


def _signal(targets: list[int], number: signal.Signals) -> None:
    for pid in targets:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@contextmanager
def _locked(spool: Spool) -> Iterator[None]:
    with open(spool.root / "lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
