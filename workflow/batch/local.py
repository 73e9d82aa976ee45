"""The batch system of a single machine: a spool folder, and one detached supervisor process for each job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

import workflow
from model.outcome import read_json
from model.specs import Strict
from workflow.batch.scheduler import JobInfo, JobRow, JobSpec, JobState, Scheduler, Snapshot, options_of
from workflow.errors import SchedulerError, SiteError
from workflow.process import ProcessId, carriers

if TYPE_CHECKING:
    from workflow.site import Site

COMMANDS: tuple[str, ...] = ()
MARK = "LOCAL_JOB_MARK"
_HISTORY_S = 14 * 86400.0


class Options(Strict):
    """What a site may say under `scheduler.options`."""

    spool: str = Field(description="Folder on a local disk for the jobs of all campaigns of this user.")
    kill_wait_s: float = Field(5.0, ge=0, description="Seconds from TERM to KILL.")


@dataclass(frozen=True)
class Spool:
    """The files of all local jobs of a user.

    Attributes:
        root: `<n>.job` what was asked, `<n>.queue` where it stands, `<n>.end` how it ended, `<n>.cancel` end it.
    """

    root: Path

    def ids(self) -> list[int]:
        """List the jobs, oldest first."""
        return sorted(int(path.stem) for path in self.root.glob("*.job"))

    def open_ids(self) -> list[int]:
        """List the jobs without an accounting row, oldest first; one listing, whatever the history."""
        files = [path.name.rpartition(".") for path in self.root.iterdir() if path.name[0] != "."]
        ended = {stem for stem, _, suffix in files if suffix == "end"}
        return sorted(int(stem) for stem, _, suffix in files if suffix == "job" and stem not in ended)

    def job(self, number: int) -> dict[str, Any]:
        """Return what was asked, who supervises it, and the `mark` that all its processes carry in their environment."""
        return read_json(self.root / f"{number}.job") or {}

    def queue(self, number: int) -> dict[str, Any]:
        """Return where the job stands; empty just after it was handed in."""
        return read_json(self.root / f"{number}.queue") or {}

    def end(self, number: int) -> dict[str, Any] | None:
        """Return how the job ended.

        A job whose supervisor died has ended when none of its processes is left; whoever looks ends them.
        """
        end: dict[str, Any] | None = read_json(self.root / f"{number}.end")
        job = self.job(number)
        if end is None and job and _is_dead(ProcessId(**job["supervisor"])):
            end = read_json(self.root / f"{number}.end")  # it may have been written between the two looks
            if end is None and not _kill_carriers(f"{MARK}={job['mark']}"):
                started = self.queue(number).get("started")
                return {
                    "state": JobState.NODE_FAIL,
                    "exit": None,
                    "reason": "its supervisor died",
                    "started": started,
                    "ended": time.time(),
                }
        return end

    def path(self, number: int, suffix: str) -> Path:
        """Return a file of a job."""
        return self.root / f"{number}.{suffix}"


class Kind(Scheduler):
    """The local batch system: FIFO over the site's nodes, `afterany`, walltime, nothing left behind."""

    is_server = False

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._spool = Spool(spool_root(site))
        self._ended: dict[int, JobRow] = {}

    def submit(self, spec: JobSpec) -> str:
        """Start a supervisor, which hands in its job and prints the id."""
        if spec.nodes > self.site.nodes:
            raise SchedulerError(
                f"{spec.nodes} nodes are asked for, {self.site.nodes} are there",
                str(spec.workdir),
                "Ask for fewer.",
                transient=False,
            )
        asked = {
            "spool": str(self._spool.root),
            "token": spec.token,
            "workdir": str(spec.workdir),
            "script": str(spec.script),
            "log": str(spec.log),
            "nodes": spec.nodes,
            "site_nodes": self.site.nodes,
            "walltime_s": spec.walltime_s,
            "waits_for": [int(job_id) for job_id in spec.after],
            "kill_wait_s": options_of(self.site, Options).kill_wait_s,
        }
        self._forget_old()
        return self._hand_in(asked)

    def snapshot(self) -> Snapshot:
        """Read the spool."""
        return Snapshot(tuple(row for number in self._spool.ids() if (row := self._row(number)) is not None))

    def cancel(self, job_id: str, token: str) -> None:
        """Leave a mark that the supervisor obeys."""
        number = int(job_id)
        if self._spool.job(number).get("token") == token:
            self._spool.path(number, "cancel").touch()

    def _hand_in(self, asked: dict[str, Any]) -> str:
        command = [sys.executable, "-m", "workflow.batch.supervisor"]
        path = os.pathsep.join([str(Path(workflow.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        where = str(self._spool.root)
        try:
            done = subprocess.run(
                command,
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                timeout=self.site.scheduler.command_timeout_s,
                env={**os.environ, "PYTHONPATH": path},
                cwd=self._spool.root,
            )
        except subprocess.TimeoutExpired as error:
            raise SchedulerError("no answer to the submission", where, "It is searched for.", unknown=True) from error
        if done.returncode or not done.stdout.strip().isdigit():
            raise SchedulerError(
                f"the supervisor did not start: {done.stderr.strip()[-500:]}", where, "Look at the spool folder.", unknown=True
            )
        return done.stdout.strip()

    def _row(self, number: int) -> JobRow | None:
        if number in self._ended:
            return self._ended[number]
        job = self._spool.job(number)
        if not job:  # forgotten meanwhile
            return None
        end, queue = self._spool.end(number), self._spool.queue(number)
        state = JobState(end["state"] if end else queue.get("state", JobState.QUEUED))
        facts = end or queue
        row = JobRow(
            str(number),
            job["token"],
            job["workdir"],
            state,
            facts.get("exit"),
            facts.get("reason", ""),
            number,
            facts.get("started"),
            facts.get("ended"),
            job["nodes"],
        )
        if end:
            self._ended[number] = row
        return row

    def _forget_old(self) -> None:
        for number in self._spool.ids():
            end = self._spool.path(number, "end")
            if end.exists() and time.time() - end.stat().st_mtime > _HISTORY_S:
                for suffix in ("job", "queue", "cancel", "end"):
                    self._spool.path(number, suffix).unlink(missing_ok=True)


def spool_root(site: Site) -> Path:
    """Return the spool folder of a site, made for this user alone.

    Raises:
        SiteError: The site's options name none, or are wrong.
    """
    root = Path(options_of(site, Options).spool).expanduser()
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root.resolve()


def _is_dead(supervisor: ProcessId) -> bool:
    """Say whether a supervisor has ended; the spool is one machine's, so none outlives a reboot."""
    return supervisor.is_proven_dead() or supervisor.is_of_an_earlier_boot()


def _kill_carriers(mark: str) -> list[int]:
    found = carriers(mark)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def directives(site: Site, spec: JobSpec) -> tuple[str, ...]:  # noqa: ARG001 every batch system's interface
    """Return none: the supervisor is told in its own words."""
    return ()


def this_job(site: Site) -> JobInfo:
    """Read what the supervisor has put into the environment.

    Raises:
        SiteError: This process runs in no local job.
    """
    try:
        names = tuple(os.environ["LOCAL_JOB_NODES"].split(","))
        return JobInfo(os.environ["LOCAL_JOB_ID"], names, float(os.environ["LOCAL_JOB_END"]))
    except KeyError as error:
        raise SiteError(
            f"{error} is not set", f"site {site.name}", "The agent is started by a batch script; use `campaign run`."
        ) from error
