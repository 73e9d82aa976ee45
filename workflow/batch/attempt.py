"""The words of the protocol: phases, actions, and what is remembered and seen of an attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from model.outcome import Cause, Status
from model.silence import Silence
from workflow.batch.scheduler import JobRow
from workflow.receipt import Receipt

if TYPE_CHECKING:
    from workflow.site import Site


class Phase(StrEnum):
    """How far an attempt has come for its driver."""

    INTENT = "intent"
    """Written down by this driver, and never submitted."""
    UNKNOWN = "unknown"
    """A submission may have been carried out: no answer came, or the driver died around it."""
    SUBMITTED = "submitted"
    """The job's id is known."""
    SETTLED = "settled"
    """Ended; nothing more is done about it."""


class Kind(StrEnum):
    """What the executor is to do."""

    WAIT = "wait"
    SUBMIT = "submit"
    ADOPT = "adopt"
    """Write down the id of a job found in the queue."""
    START = "start"
    """Write down that it runs."""
    CANCEL = "cancel"
    """Ask the scheduler to end the jobs named."""
    STOP = "stop"
    """Ask the agent to end in order."""
    FENCE = "fence"
    """Take the attempt's run folder, so that it can never start."""
    SETTLE = "settle"
    ACCOUNT = "account"
    """Write down what the job of an attempt that was settled before its end has cost."""


@dataclass(frozen=True)
class Windows:
    """Times that the site sets, in seconds.

    Attributes:
        unknown_s: How long an unknown submission is searched for before it counts as absent.
        absence_s: Time between two absences that together prove one; also the patience for a late receipt.
        ttl_s: Time for which a heartbeat is watched standing still before its writer is taken for dead.
        grace_s: Time from asking an agent to stop to asking the scheduler to end its job.
        backoff_s: Time before a refused submission is tried again.
        poll_s: Time from one look to the next.
    """

    unknown_s: float
    absence_s: float
    ttl_s: float
    grace_s: float
    backoff_s: float
    poll_s: float


def windows_of(site: Site) -> Windows:
    """Return the times that a site sets."""
    scheduler, periods = site.scheduler, site.periods
    return Windows(
        scheduler.unknown_window_s,
        scheduler.absence_window_s,
        periods.ttl_s,
        periods.stop_margin_s + periods.kill_after_s,
        scheduler.poll_s * 5,
        scheduler.poll_s,
    )


@dataclass(frozen=True)
class Settled:
    """How an attempt ended.

    Attributes:
        status: From the receipt, else failed.
        cause: Set when failed, but for an attempt that was revoked or cancelled before it started.
        message: One sentence.
        receipt: The receipt, where one stands.
        evidence: What proves it.
        node_hours: By accounting, or by the receipt of a job that has not ended yet; None where nothing proves them.
        job_ended: Its job is proven to have ended.
    """

    status: Status
    cause: Cause | None
    message: str
    receipt: Receipt | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    node_hours: float | None = 0.0
    job_ended: bool = True


@dataclass(frozen=True)
class Attempt:
    """What is remembered of an attempt; times are the driver's own monotonic clock.

    Attributes:
        token: Its identity.
        windows: See `Windows`.
        phase: See `Phase`.
        job_id: The job adopted, where known.
        started: Its start has been written down.
        cancel: Its end is wanted.
        absent_since: First of the answers without its job that stand in a row.
        ended_since: First look at an ended job without a receipt, or at a receipt while the job is still there.
        silence: For how long its heartbeat was watched standing still.
        retry_at: Do not submit before.
        asked_at: When the end of a job was last asked for.
        stopping: Its agent was asked to stop in order.
        settled: How it ended.
        lingers: It was settled by its receipt, and its job is not yet proven to have ended.
    """

    token: str
    windows: Windows
    phase: Phase = Phase.INTENT
    job_id: str | None = None
    started: bool = False
    cancel: bool = False
    absent_since: float | None = None
    ended_since: float | None = None
    silence: Silence = Silence()
    retry_at: float | None = None
    asked_at: float | None = None
    stopping: bool = False
    settled: Settled | None = None
    lingers: bool = False


@dataclass(frozen=True)
class Observation:
    """What was seen of an attempt at one moment.

    Attributes:
        answered: The scheduler answered; without it `rows` says nothing.
        rows: Jobs with this token and this folder.
        receipt: The attempt's receipt, where one stands.
        fenced: Its run folder stands: it has started, or the driver barred it.
        barred: The driver made that folder: the attempt can never start.
        start_job: Job id that the agent wrote when it started.
        beat: The agent's heartbeat count.
    """

    answered: bool
    rows: tuple[JobRow, ...] = ()
    receipt: Receipt | None = None
    fenced: bool = False
    barred: bool = False
    start_job: str | None = None
    beat: int | None = None


@dataclass(frozen=True)
class Action:
    """What to do, by which row of the table, and what to remember.

    Attributes:
        row: Name of the row of `TABLE` that decided.
        kind: See `Kind`.
        attempt: What is remembered from now on.
        jobs: Ids of the jobs meant.
        settled: How it ended, with `Kind.SETTLE`.
        node_hours: What its job has cost, with `Kind.ACCOUNT`; None where nothing proves it.
    """

    row: str
    kind: Kind
    attempt: Attempt
    jobs: tuple[str, ...] = ()
    settled: Settled | None = None
    node_hours: float | None = None
