"""PBS Pro: `qsub`, one `qstat` for all jobs, `qdel`; exit codes are looked at before any text."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from model.specs import Strict
from workflow.batch.command import Answer, ask, patiently
from workflow.batch.pbs_listing import jobs_of, may_be_of
from workflow.batch.scheduler import (
    JobInfo,
    JobRow,
    JobSpec,
    JobState,
    Scheduler,
    Snapshot,
    account_of,
    options_of,
    queue_options,
)
from workflow.errors import SchedulerError, SiteError, plain

if TYPE_CHECKING:
    from workflow.site import Site

COMMANDS = ("qsub", "qstat", "qdel")

_ID = re.compile(r"\d+(\[\d*\])?(\.[\w.-]+)?")
_REFUSED = frozenset({1, 2, 32, 166, 170, 173, 174, 187, 188})
"""Exit codes of qsub after which the same request fails again: a resource, queue, walltime or name that it does not take."""
_NOT_NOW = frozenset({38, 160, 162})
"""Exit codes of qsub that say that nothing was accepted, and that time may mend it: a limit reached, a server that is down."""
_ENDED, _UNKNOWN_ID = 35, 153
_WALLTIME_EXIT = -29
_LOST_NODE = frozenset({-4, -5, -6, -14, -20, -30})
"""The server's own exit codes of jobs that lost a node: its daemon began anew, or could not be reached by the first node or the
server, or did not join (`JOB_EXEC_*` of OpenPBS's `job.h`; Altair's reference guide, table of job exit codes)."""
_OUT_OF_MEMORY = frozenset({-26, -27, -31})
"""Those of jobs that used more memory than they may: virtual, plain, high-bandwidth."""
_DELETED, _WAITS_FOR_ANOTHER = 91, 22
_WAITING = {"Q": JobState.QUEUED, "W": JobState.QUEUED, "T": JobState.QUEUED, "M": JobState.QUEUED, "H": JobState.HELD}
_UNDER_WAY = {"R": JobState.RUNNING, "B": JobState.RUNNING, "S": JobState.RUNNING, "U": JobState.RUNNING, "E": JobState.ENDING}
_OVER = ("F", "X")


class Options(Strict):
    """What a site may say under `scheduler.options`."""

    filesystems: str = Field("", description="File systems that a job needs, joined by `:`.")
    place: str = Field("", description="Placement of its chunks.")
    arguments: tuple[str, ...] = Field((), description="Further options of every job, such as `-k doe`.")


class QueueOptions(Strict):
    """What a site may say under `options` of a queue."""

    queue: str = Field(description="Name to submit to; a routing queue finds the one that runs the job.")


class Kind(Scheduler):
    """PBS Pro."""

    server_variables = ("PBS_CONF_FILE", "PBS_SERVER")

    def submit(self, spec: JobSpec) -> str:
        """Hand in a script from its folder, which the server keeps as `PBS_O_WORKDIR`."""
        known = self._jobs() if spec.after else {}
        after = [job_id for job_id in spec.after if job_id in known]  # a job that waits for an unknown one never runs
        depend = ["-W", f"depend=afterany:{':'.join(after)}"] if after else []
        answer = self._ask(["qsub", *depend, str(spec.script)], spec.workdir, changes=True)
        if ids := [line.strip() for line in answer.out.splitlines() if _ID.fullmatch(line.strip())]:
            return ids[-1]  # a code beside one does not unmake the job
        where = str(spec.workdir)
        if answer.code in _REFUSED:
            raise SchedulerError(f"qsub refused: {answer.words}", where, "Mend the site's queues or the stage.", transient=False)
        if answer.code in _NOT_NOW:
            raise SchedulerError(f"qsub: {answer.words}", where, "It is tried again.")
        what = f"qsub ended with {answer.code} and no answer that can be read: {answer.words}"
        raise SchedulerError(what, where, "It is searched for.", unknown=True)

    def snapshot(self) -> Snapshot:
        """Ask for all jobs, ended ones too, without ids: with several, some releases show the first only."""
        owner = _own_name()
        own = {job_id: job for job_id, job in self._jobs().items() if _is_of(job, owner)}
        try:
            rows = tuple(_row(job_id, job) for job_id, job in own.items() if not isinstance(job, str))
            return Snapshot(rows, is_complete=len(rows) == len(own))
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # a job that cannot be read must not count as absent
            raise SchedulerError(f"qstat's answer makes no sense: {plain(repr(error))}", "qstat", "It is asked again.") from error

    def cancel(self, job_id: str, token: str) -> None:
        """Ask for the end of a job; one that has ended or is unknown needs none. Its name is looked at first: qdel takes ids."""
        told = self._ask(["qstat", "-f", "-F", "json", job_id])
        if told.code in (_ENDED, _UNKNOWN_ID):
            return
        jobs = list(_parsed(told.out).values()) if told.code == 0 else []
        if not jobs or isinstance(jobs[0], str):
            raise SchedulerError(f"qstat ended with {told.code} and no job: {told.words}", job_id, "It is asked again.")
        if jobs[0].get("Job_Name") != token:
            return
        answer = self._ask(["qdel", job_id], changes=True)
        if answer.code not in (0, _ENDED, _UNKNOWN_ID):
            raise SchedulerError(f"qdel: {answer.words}", job_id, "It is asked again.")

    def _jobs(self) -> dict[str, dict[str, Any] | str]:
        answer = self._ask(["qstat", "-x", "-f", "-F", "json"])
        if answer.code != 0:  # its output may be whole JSON without jobs all the same
            raise SchedulerError(f"qstat ended with {answer.code}: {answer.words}", "qstat", "It is asked again.")
        return _parsed(answer.out)

    def _ask(self, argv: list[str], folder: Path | None = None, *, changes: bool = False) -> Answer:
        return ask(argv, self.site.scheduler.command_timeout_s, folder, changes=changes)


def directives(site: Site, spec: JobSpec) -> tuple[str, ...]:
    """Return the `#PBS` lines of a job.

    Raises:
        SiteError: No account is known.
    """
    options = options_of(site, Options)
    whole = int(spec.walltime_s)
    lines = [
        f"-N {spec.token}",
        f"-A {shlex.quote(account_of(site))}",
        f"-q {queue_options(site, spec.queue, QueueOptions).queue}",
        f"-l select={spec.nodes}",
        f"-l walltime={whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}",
        *([f"-l filesystems={options.filesystems}"] if options.filesystems else []),
        *([f"-l place={options.place}"] if options.place else []),
        *options.arguments,
        "-r n",
        "-j oe",
        f"-o {shlex.quote(str(spec.log))}",
    ]
    return tuple(f"#PBS {line}" for line in lines)


def this_job(site: Site) -> JobInfo:
    """Return what this job knows of itself: nodes from the node file, the end from the server.

    Raises:
        SiteError: This process runs in no job.
        SchedulerError: No node is named to the job, or the server does not say when it ends.
    """
    try:
        job_id, nodes = os.environ["PBS_JOBID"], Path(os.environ["PBS_NODEFILE"])
    except KeyError as error:
        remedy = "The agent is started by a batch script; use `campaign run`."
        raise SiteError(f"no job of PBS: {error} is not set", f"site {site.name}", remedy) from error
    try:
        names = nodes.read_text().split()
    except OSError as error:
        raise SchedulerError(f"the job's node file cannot be read: {error.strerror}", str(nodes)) from error
    if not names:
        raise SchedulerError("no node stands in the job's node file", str(nodes))
    end = patiently(lambda: _end_time(site, job_id), f"the end of job {job_id}", f"site {site.name}: `qstat -f`")
    return JobInfo(job_id, tuple(dict.fromkeys(names)), end)


def _end_time(site: Site, job_id: str) -> float | None:
    """Return when a job's walltime is over; None where the server does not say: neither time stands there at first."""
    answer = ask(["qstat", "-f", "-F", "json", job_id], site.scheduler.command_timeout_s)
    job = next(iter(_parsed(answer.out).values()), None) if answer.code == 0 else None
    if not isinstance(job, dict):
        return None
    resources = job.get("Resource_List")
    began, walltime = _time(job.get("stime")), _seconds(resources.get("walltime") if isinstance(resources, dict) else None)
    return None if began is None or walltime is None else began + walltime


def _parsed(text: str) -> dict[str, dict[str, Any] | str]:
    """Return jobs by id out of the server's JSON, one that cannot be read as its text.

    Raises:
        SchedulerError: The whole cannot be read; nothing follows from that about any job.
    """
    jobs = jobs_of(text)
    if jobs is None:
        raise SchedulerError("qstat's answer is no JSON of jobs", "qstat", "It is asked again.")
    return jobs


def _row(job_id: str, job: dict[str, Any]) -> JobRow:
    code = job.get("Exit_status")
    return JobRow(
        job_id=job_id,
        token=str(job.get("Job_Name", "")),
        workdir=str(job.get("Variable_List", {}).get("PBS_O_WORKDIR", "")),
        state=_state(job),
        exit=_exit(code),
        reason=str(job.get("comment", "")),
        submitted=_submitted(job_id, job),
        started=_time(job.get("stime")),
        ended=(_time(job.get("obittime")) or _number(job.get("history_timestamp"))) if job["job_state"] in _OVER else None,
        nodes=int(job.get("Resource_List", {}).get("nodect", 0)),
    )


def _state(job: dict[str, Any]) -> JobState:
    letter, code = job["job_state"], job.get("Exit_status")
    if not isinstance(letter, str) or not letter:
        raise ValueError(f"job_state {letter!r}")
    if letter == "H" and job.get("substate") == _WAITS_FOR_ANOTHER:  # held by the server until a job that it names ends
        return JobState.QUEUED
    if letter in _WAITING or letter in _UNDER_WAY:
        return _WAITING.get(letter) or _UNDER_WAY[letter]
    if letter not in _OVER:  # a later release's: alive, until it says that it has ended
        return JobState.RUNNING
    if code == _WALLTIME_EXIT:
        return JobState.TIMEOUT
    if code in _LOST_NODE:
        return JobState.NODE_FAIL
    if code in _OUT_OF_MEMORY:
        return JobState.OUT_OF_MEMORY
    if job.get("substate") == _DELETED:
        return JobState.CANCELLED
    return JobState.COMPLETED if code == 0 else JobState.FAILED


def _exit(code: Any) -> int | None:
    """Return the exit code; the server adds 256 to the number of a signal, shells 128, and its own codes are negative."""
    if not isinstance(code, int) or code == _WALLTIME_EXIT:  # which the state tells
        return None
    return code - 128 if code >= 256 else code


def _submitted(job_id: str, job: dict[str, Any]) -> float:
    number = re.match(r"\d+", job_id)
    return (_time(job.get("ctime")) or 0.0) + (int(number[0]) % 10**6 / 10**6 if number else 0.0)


def _own_name() -> str:
    """Return this user's name as the server knows it: that of the process, whatever `LOGNAME` says.

    Raises:
        SchedulerError: The user's number has no name on this host.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        what = f"user {os.getuid()} has no name here, by which jobs of ours could be told from others'"
        raise SchedulerError(what, "the host's user database", "Run on a login node of the site.") from error


def _is_of(job: dict[str, Any] | str, owner: str) -> bool:
    return may_be_of(job, owner) if isinstance(job, str) else str(job.get("Job_Owner", "")).partition("@")[0] == owner


def _time(text: Any) -> float | None:
    try:
        return time.mktime(time.strptime(str(text), "%a %b %d %H:%M:%S %Y"))
    except ValueError:
        return None


def _seconds(text: Any) -> float | None:
    parts = str(text).split(":")
    return sum(int(part) * 60**place for place, part in enumerate(reversed(parts))) if all(p.isdigit() for p in parts) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
