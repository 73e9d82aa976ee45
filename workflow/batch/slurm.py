"""Slurm: `sbatch`, one `squeue` and one `sacct` for all jobs, `scancel`; asked by field lists, which releases leave alone."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from model.specs import Strict
from workflow.batch.command import Answer, ask, patiently
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
from workflow.errors import SchedulerError, SiteError

if TYPE_CHECKING:
    from workflow.site import Site

COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun")

_BETWEEN = "\x1f"  # between fields: a job of the user's own may have any other character in its name
_QUEUE = _BETWEEN.join(("%i", "%V", "%T", "%r", "%S", "%e", "%D", "%N", "%j", "%Z"))
_ACCOUNTING = "JobIDRaw,Submit,State,ExitCode,Start,End,AllocNodes,JobName,WorkDir"
_QUIET = ("SQUEUE_", "SACCT_", "SCANCEL_")
"""Variables by which users filter what they are shown, or end; ours must show everything, and end what they name."""
_WORDS = {
    JobState.QUEUED: ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED"),
    JobState.HELD: ("REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
    JobState.RUNNING: ("RUNNING", "RESIZING", "SIGNALING", "STOPPED", "SUSPENDED"),
    JobState.ENDING: ("COMPLETING", "STAGE_OUT"),
    JobState.COMPLETED: ("COMPLETED",),
    JobState.FAILED: ("FAILED",),
    JobState.CANCELLED: ("CANCELLED", "DEADLINE", "REVOKED"),
    JobState.TIMEOUT: ("TIMEOUT",),
    JobState.NODE_FAIL: ("NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "RECONFIG_FAIL"),
    JobState.PREEMPTED: ("PREEMPTED",),
    JobState.OUT_OF_MEMORY: ("OUT_OF_MEMORY",),
}
_STATES = {word: state for state, words in _WORDS.items() for word in words}
_HELD = ("JobHeld", "launch failed requeued held")
_REFUSED = (
    *(
        f"invalid {what}"
        for what in ("account", "partition", "qos", "feature", "node name", "generic resource", "wckey", "license")
    ),
    *("invalid --", "invalid number of nodes", "is not a valid", "unrecognized option", "unable to open file"),
    *("count specification invalid", "time limit is invalid", "reservation is invalid", "configuration is not available"),
    *("requested than permitted", "can not be satisfied", "permission denied", "not permitted to use", "perjoblimit"),
)
"""What sbatch says of a request that will never do; looked for first."""
_NOT_NOW = (
    *("accounting/qos policy", "dependency problem", "inactive or drain", "not available now"),
    *("standby mode", "temporarily unable", "unable to contact slurm controller", "authentication"),
)
"""What it says last when nothing was accepted and time may mend that."""
_TIMED_OUT = ("timed out", "zero bytes were transmitted")
"""What it says last when the request may have been carried out."""
_NOTHING_TO_END = ("invalid job id", "already completing or completed", "no active jobs match")
"""What scancel says of a job that it need not end."""
_NO_LOG = (0, 53)
"""Exit code and signal of a job whose folder or log could not be opened (slurmstepd's own; seen with 22.05)."""
_CANNOT_CREATE = 73  # EX_CANTCREAT of sysexits.h; `workflow/batch/causes.py` knows it
_EARLY_S = 60  # a signal before the walltime may come so much too early (sbatch(1), --signal)


class Options(Strict):
    """What a site may say under `scheduler.options`."""

    constraint: str = Field("", description="Features that the nodes of every job must have.")
    arguments: tuple[str, ...] = Field((), description="Further options of every job, such as `--network=disable_rdzv_get`.")
    history_days: int = Field(30, ge=1, description="Days back that accounting is asked about; the driver may be away so long.")


class QueueOptions(Strict):
    """What a site may say under `options` of a queue."""

    partition: str = Field("", description="Partition; empty: the cluster's own choice.")
    qos: str = Field("", description="Quality of service; empty: the account's own.")
    constraint: str = Field("", description="Features in place of those of `scheduler.options`.")


class Kind(Scheduler):
    """Slurm."""

    server_variables = ("SLURM_CONF", "SLURM_CLUSTERS")

    def warning_s(self, walltime_s: float) -> float:
        """Return how many seconds before its end a job is sent `USR1`: after the agent's own timer, which is to come first."""
        return max(0.0, int(self.site.periods.margin_s(walltime_s)) - _EARLY_S)

    def submit(self, spec: JobSpec) -> str:
        """Hand in a script; its directives are said again on the command line, where no `SBATCH_*` variable outranks them."""
        where = str(spec.workdir)
        if odd := {character for character in f"{where}{spec.log}" if character in '"\\' or not character.isprintable()}:
            found = f"a path with {', '.join(map(repr, sorted(odd)))} is no working folder for Slurm"
            raise SchedulerError(found, where, "Put the campaign into a folder of another name.", transient=False)
        after = [f"--dependency=afterany:{':'.join(spec.after)}"] if spec.after else []
        options = [f"--{name}" for name in _options(self.site, spec)]
        return self._job_id(self._ask(["sbatch", "--parsable", *after, *options, str(spec.script)], changes=True), where)

    def snapshot(self) -> Snapshot:
        """Ask queue and accounting; without accounting the snapshot is not complete."""
        queue = self._ask(["squeue", "--me", "--noheader", "--states=all", f"--format={_QUEUE}"])
        if queue.code != 0:
            raise SchedulerError(f"squeue ended with {queue.code}: {queue.words}", "squeue", "It is asked again.")
        queued = [_queue_row(fields) for fields in _fields(queue.out, 10)]
        try:
            return Snapshot(_merged(queued, self._accounting()))
        except SchedulerError:
            return Snapshot(_merged(queued, []), is_complete=False)

    def cancel(self, job_id: str, token: str) -> None:
        """Ask for the end of a job; one that has ended, is unknown or has another name needs none: only words tell that."""
        answer = self._ask(["scancel", "--me", f"--name={token}", job_id], changes=True)
        if answer.code != 0 and not any(text in answer.words.lower() for text in _NOTHING_TO_END):
            raise SchedulerError(f"scancel: {answer.words}", job_id, "It is asked again.")

    def _job_id(self, answer: Answer, where: str) -> str:
        """Return the id; a code beside one does not unmake the job."""
        job_id = answer.out.strip().partition(";")[0]
        if job_id.isdigit():
            return job_id
        lines = (answer.err or answer.out).lower().strip().splitlines() or [""]
        is_open = any(text in lines[-1] for text in _TIMED_OUT)  # whatever it said before it tried again
        if not is_open and any(text in line for line in lines for text in _REFUSED):
            what, remedy = f"sbatch refused: {answer.words}", "Mend the site's queues or the stage."
            raise SchedulerError(what, where, remedy, transient=False)
        if not is_open and any(text in lines[-1] for text in _NOT_NOW):
            raise SchedulerError(f"sbatch: {answer.words}", where, "It is tried again.")
        what = f"sbatch ended with {answer.code} and no id: {answer.words}"
        raise SchedulerError(what, where, "It is searched for.", unknown=True)

    def _accounting(self) -> list[JobRow]:
        since = f"--starttime=now-{options_of(self.site, Options).history_days}days"  # the default begins at midnight
        which = ["--allocations", f"--user={os.getuid()}", since]
        answer = self._ask(["sacct", *which, "--noheader", "--parsable2", f"--delimiter={_BETWEEN}", f"--format={_ACCOUNTING}"])
        if answer.code != 0:
            raise SchedulerError(f"sacct ended with {answer.code}: {answer.words}", "sacct", "It is asked again.")
        return [_accounting_row(fields) for fields in _fields(answer.out, 9)]

    def _ask(self, argv: Sequence[str], *, changes: bool = False) -> Answer:
        return ask(argv, self.site.scheduler.command_timeout_s, changes=changes, environment=_environment())


def directives(site: Site, spec: JobSpec) -> tuple[str, ...]:
    """Return the `#SBATCH` lines of a job.

    Raises:
        SiteError: No account is known, or the site's options do not fit.
    """
    return tuple(f"#SBATCH --{_quoted(option)}" for option in _options(site, spec))


def this_job(site: Site) -> JobInfo:
    """Return what this job knows of itself.

    Raises:
        SiteError: This process runs in no job.
        SchedulerError: The controller does not say which nodes it has or when it ends.
    """
    job_id = os.environ.get("SLURM_JOB_ID")
    if not job_id:
        raise SiteError(
            "SLURM_JOB_ID is not set", f"site {site.name}", "The agent is started by a batch script; use `campaign run`."
        )

    def told(what: str, *argv: str) -> str:
        return patiently(lambda: _told(site, argv), f"{what} of job {job_id}", f"site {site.name}: `{' '.join(argv)}`")

    names = told("the nodes", "scontrol", "show", "hostnames")  # it reads SLURM_JOB_NODELIST, which may be long
    asks_end = ("squeue", "--noheader", f"--jobs={job_id}", "--format=%e")
    end = os.environ.get("SLURM_JOB_END_TIME") or told("the end", *asks_end)
    return JobInfo(job_id, tuple(names.split()), float(end))


def _told(site: Site, argv: Sequence[str]) -> str | None:
    answer = ask(argv, site.scheduler.command_timeout_s, environment=_environment())
    return answer.out.strip() if answer.code == 0 and answer.out.strip() not in ("", "N/A") else None


def _options(site: Site, spec: JobSpec) -> list[str]:
    """Return the options of a job, without their dashes, as `name=value` or `name`."""
    options, queue = options_of(site, Options), queue_options(site, spec.queue, QueueOptions)
    pairs = {
        "job-name": spec.token,
        "comment": spec.token,
        "account": account_of(site),
        "partition": queue.partition,
        "qos": queue.qos,
        "constraint": queue.constraint or options.constraint,
        "nodes": str(spec.nodes),
        "time": str(math.ceil(spec.walltime_s / 60)),
        "chdir": str(spec.workdir),
        "output": str(spec.log).replace("%", "%%"),
        "signal": f"B:USR1@{int(early_s)}" if (early_s := Kind(site).warning_s(spec.walltime_s)) else "",
    }
    own = ["open-mode=append", "exclusive", "no-requeue", "no-kill"]
    return [a.removeprefix("--") for a in options.arguments] + [f"{name}={value}" for name, value in pairs.items() if value] + own


def _quoted(option: str) -> str:
    """Return an option as sbatch reads it in a script: quotes around a value that holds more than letters."""
    name, equals, value = option.partition("=")
    return option if re.fullmatch(r"[\w@%+:,./=-]*", value) else f'{name}{equals}"{value}"'


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_QUIET)}
    return {**kept, "SLURM_TIME_FORMAT": "%s"}  # Unix time: no time zone, no summer time


def _fields(text: str, count: int) -> list[list[str]]:
    rows = [line.split(_BETWEEN, count - 1) for line in text.splitlines()]
    return [row for row in rows if len(row) == count]


def _queue_row(fields: list[str]) -> JobRow:
    job_id, submitted, word, reason, began, ended, nodes, given, name, folder = fields
    state = _state(word)
    if state is JobState.QUEUED or not given:
        began = ""  # of a waiting job its start is a guess; of one that was cancelled while it waited, it is its end
    if state is JobState.QUEUED and reason.startswith(_HELD):
        state = JobState.HELD
    times, code = _times(state, submitted, began, ended), 0 if state is JobState.COMPLETED else None
    return JobRow(job_id, name, folder, state, code, reason, *times, _number(nodes))


def _accounting_row(fields: list[str]) -> JobRow:
    job_id, submitted, word, code, began, ended, nodes, name, folder = fields
    state = _state(word)
    if state.is_final and _time(ended) is None:
        state = JobState.ENDING  # after an outage the state comes first, time and exit code seconds later
    if state.is_final and not _number(nodes):
        began = ""  # no nodes were ever given to it
    times = _times(state, submitted, began, ended)
    return JobRow(job_id, name, folder, state, _exit(code) if state.is_final else None, word, *times, _number(nodes))


def _times(state: JobState, submitted: str, began: str, ended: str) -> tuple[float, float | None, float | None]:
    return _time(submitted) or 0.0, _time(began), _time(ended) if state.is_final else None


def _merged(queue: list[JobRow], accounting: list[JobRow]) -> tuple[JobRow, ...]:
    """Return one row for each submission; an id that is used again has another time of submission."""
    told = {(row.job_id, row.submitted): row for row in accounting}
    seen = {(row.job_id, row.submitted): row for row in queue}
    return tuple(row for key in {**told, **seen} if (row := _row(seen.get(key), told.get(key))) is not None)


def _row(queue: JobRow | None, accounting: JobRow | None) -> JobRow | None:
    """Return what both together say of a job: accounting of its end, the queue of its life."""
    if queue is None:
        if accounting is None or (accounting.state in (JobState.QUEUED, JobState.HELD) and accounting.started is None):
            return None  # it waits by accounting, and is in no queue: it can never start
        if accounting.state.is_final:
            return accounting
        return replace(accounting, state=JobState.ENDING, reason="accounting has not heard of its end")
    if queue.state is JobState.ENDING or accounting is None or not accounting.state.is_final:
        # The queue does not tell exit codes: whose fault a failure is, accounting will say.
        return replace(queue, state=JobState.ENDING) if queue.state is JobState.FAILED else queue
    return accounting


def _state(word: str) -> JobState:
    """Return the state of `CANCELLED by 0` and `OUT_OF_ME+` too; a word that a later release adds counts as alive."""
    first = word.partition(" ")[0].rstrip("+")
    found = [state for name, state in _STATES.items() if first and name.startswith(first)]
    return _STATES.get(first) or (found[0] if found else JobState.RUNNING)


def _exit(code: str) -> int | None:
    """Return the exit code, 128 + n for signal n."""
    parts = code.split(":")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        return None
    number, signal = map(int, parts)
    if (number, signal) == _NO_LOG:
        return _CANNOT_CREATE
    return 128 + signal if signal else number


def _time(text: str) -> float | None:
    return float(text) if text.isdigit() else None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
