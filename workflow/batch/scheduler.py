"""What every batch system is to us: submit, one query for all jobs, cancel; and what a job knows of itself."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, TypeVar, cast

from pydantic import BaseModel

from model.registry import require
from workflow.errors import SiteError
from workflow.queues import queue_named
from workflow.site import Site, overlay_told
from workflow.validation import validate

T = TypeVar("T", bound=BaseModel)
_OURS = (
    "__init__",
    "attempt",
    "causes",
    "command",
    "executor",
    "fence",
    "job",
    "pbs_listing",
    "protocol",
    "scheduler",
    "script",
    "shared",
    "supervisor",
    "watched",
)


class JobState(StrEnum):
    """Where a job stands, in the words of no particular batch system."""

    QUEUED = "queued"
    """Waits for nodes or for another job."""
    HELD = "held"
    """Waits until somebody releases it."""
    RUNNING = "running"
    ENDING = "ending"
    """Its script has ended or is being ended; the nodes are not free yet."""
    COMPLETED = "completed"
    """Ended with exit code 0."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def is_final(self) -> bool:
        """Whether the job can never run (again)."""
        return self not in (JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.ENDING)

    @property
    def has_started(self) -> bool:
        """Whether its script may be running right now."""
        return self in (JobState.RUNNING, JobState.ENDING)


@dataclass(frozen=True)
class JobSpec:
    """What is submitted.

    Attributes:
        token: Job name and identity.
        workdir: The attempt's folder; tells our jobs from another campaign's.
        script: The batch script.
        log: Where its output goes.
        nodes: Whole nodes.
        walltime_s: Seconds.
        queue: Name of a queue of the site.
        after: Start only when all these jobs have ended, however they did; those that are not known any more count as ended.
    """

    token: str
    workdir: Path
    script: Path
    log: Path
    nodes: int
    walltime_s: float
    queue: str = ""
    after: tuple[str, ...] = ()

    @property
    def node_hours(self) -> float:
        """Return what the job costs when it lasts its whole walltime."""
        return self.nodes * self.walltime_s / 3600.0


@dataclass(frozen=True)
class JobRow:
    """One job as queue or accounting shows it.

    Attributes:
        job_id: The scheduler's id.
        token: Job name.
        workdir: Working folder it was submitted with.
        state: See `JobState`.
        exit: Exit code, where known: 128 + n for signal n; the batch system's own where it is negative.
        reason: The scheduler's own words, for people.
        submitted: Sort key of the submission: larger is later.
        started: Unix time by the scheduler's clock, or None.
        ended: Unix time by the scheduler's clock, or None.
        nodes: Nodes allocated.
    """

    job_id: str
    token: str
    workdir: str
    state: JobState
    exit: int | None = None
    reason: str = ""
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    nodes: int = 0

    @property
    def node_hours(self) -> float:
        """Return what an ended job has cost."""
        if self.started is None or self.ended is None:
            return 0.0
        return max(0.0, self.ended - self.started) / 3600.0 * self.nodes


@dataclass(frozen=True)
class Snapshot:
    """All jobs of this user that queue and accounting know, by one query.

    Attributes:
        rows: The jobs.
        is_complete: Accounting answered too, and each job could be read; else no absence and no end is proven.
    """

    rows: tuple[JobRow, ...]
    is_complete: bool = True

    def of(self, token: str, workdir: Path) -> tuple[JobRow, ...]:
        """Return the jobs of one attempt; a token found in another folder is not ours."""
        return tuple(row for row in self.rows if row.token == token and row.workdir == str(workdir))


@dataclass(frozen=True)
class JobInfo:
    """What a running job knows of itself.

    Attributes:
        job_id: The scheduler's id.
        nodes: Names of its nodes, as the launcher takes them.
        end_time: Unix time at which the scheduler will end it.
    """

    job_id: str
    nodes: tuple[str, ...]
    end_time: float


class Scheduler(ABC):
    """A batch system; a module of `workflow/batch` defines a subclass `Kind`, `this_job`, `directives`, `COMMANDS`."""

    is_server: ClassVar[bool] = True
    """Whether a server is asked, which all users of a facility share."""
    server_variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables by which a user chooses among several servers."""

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    def server(self) -> str:
        """Which one is asked, as far as the user's variables say."""
        return "\0".join(os.environ.get(name, "") for name in self.server_variables)

    def warning_s(self, walltime_s: float) -> float:  # noqa: ARG002 for those that can warn
        """Return how many seconds before its end a job of this length is sent a signal; 0 where none is."""
        return 0.0

    @abstractmethod
    def submit(self, spec: JobSpec) -> str:
        """Hand in a job and return its id.

        Raises:
            SchedulerError: Refused; or, with `unknown`, no answer came and the job may have been accepted.
        """

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Ask once for all jobs, waiting, running and ended.

        Raises:
            SchedulerError: No answer; nothing follows from that about any job.
        """

    @abstractmethod
    def cancel(self, job_id: str, token: str) -> None:
        """Ask for the end of a job of that name, for an id may be another's by now; only its row tells whether it has ended.

        Raises:
            SchedulerError: No answer.
        """


def scheduler_kinds() -> list[str]:
    """List the batch systems: the modules of `workflow/batch` that are none of its machinery."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _OURS)


def for_site(site: Site) -> Scheduler:
    """Return the batch system of a site.

    Raises:
        SiteError: There is none of that name.
    """
    scheduler: Scheduler = importlib.import_module(_module(site)).Kind(site)
    return scheduler


def this_job(site: Site) -> JobInfo:
    """Return what the running job knows of itself; for the agent.

    Raises:
        SiteError: This process runs in no job.
    """
    info: JobInfo = importlib.import_module(_module(site)).this_job(site)
    return info


def commands(site: Site) -> tuple[str, ...]:
    """Return the programs by which the site's batch system is reached."""
    names: tuple[str, ...] = importlib.import_module(_module(site)).COMMANDS
    return names


def directives(site: Site, spec: JobSpec) -> tuple[str, ...]:
    """Return the lines at the head of a batch script that tell the site's batch system what the job needs.

    Raises:
        SiteError: The site's options lack something, such as the account.
    """
    lines: tuple[str, ...] = importlib.import_module(_module(site)).directives(site, spec)
    return lines


def options_of(site: Site, kind: type[T]) -> T:
    """Return a site's `scheduler.options`, typed as its batch system's own `Options`.

    Raises:
        SiteError: A key has no place there, is missing, or does not fit.
    """
    options, faults = validate(kind, site.scheduler.options)
    if faults:
        where = ".".join((f"sites/{site.name}.yaml: scheduler.options", *faults[0].key))
        raise SiteError(faults[0].what, where, faults[0].remedy)
    return cast(T, options)


def queue_options(site: Site, name: str, kind: type[T]) -> T:
    """Return the `options` of a queue, typed as its batch system's own `QueueOptions`.

    Raises:
        SiteError: No such queue; or a key has no place there, is missing, or does not fit.
    """
    options, faults = validate(kind, queue_named(site, name).options)
    if faults:
        where = ".".join((f"sites/{site.name}.yaml: queues.{name}.options", *faults[0].key))
        raise SiteError(faults[0].what, where, faults[0].remedy)
    return cast(T, options)


def account_of(site: Site) -> str:
    """Return the project to charge.

    Raises:
        SiteError: None is known.
    """
    if not site.account:
        what, remedy = "no account to charge", f"Write `account: …` into {overlay_told(site.name)}."
        raise SiteError(what, f"site {site.name}: account", remedy)
    return site.account


def _module(site: Site) -> str:
    kind = site.scheduler.kind
    try:
        require(kind, scheduler_kinds(), "scheduler", "scheduler.kind")
    except Exception as error:
        raise SiteError(
            f"no scheduler '{kind}'", f"sites/{site.name}.yaml: scheduler.kind", getattr(error, "remedy", "")
        ) from error
    return f"workflow.batch.{kind}"
