"""Decide what to do next about one attempt, out of what is remembered, what is seen, and the time; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from model.outcome import Cause, Status
from workflow.batch.attempt import Action, Attempt, Kind, Observation, Phase, Settled
from workflow.batch.causes import judge
from workflow.batch.scheduler import JobRow, JobState


def decide(attempt: Attempt, observation: Observation, now: float) -> Action:
    """Return the next action: that of the first row of `TABLE` that holds.

    Truth ranks receipt > accounting > queue > heartbeat. An absence proves nothing before it was seen twice,
    apart in time; a submission without an answer is unknown, not failed; a fence taken by the driver proves
    that the attempt can never start; a heartbeat is silent only for as long as it was watched (`model.silence`).
    """
    sight = Sight(_remember(attempt, observation, now), observation, now)
    row = next(row for row in TABLE if row.holds(sight))
    return replace(row.act(sight), row=row.name)


def submitted(attempt: Attempt, job_id: str) -> Attempt:
    """Remember the id that the scheduler gave."""
    return replace(attempt, phase=Phase.SUBMITTED, job_id=job_id, absent_since=None)


def unanswered(attempt: Attempt) -> Attempt:
    """Remember that a submission may have been carried out; the search for it begins anew."""
    return replace(attempt, phase=Phase.UNKNOWN, absent_since=None)


def refused(attempt: Attempt, now: float) -> Attempt:
    """Remember that the scheduler said no for now."""
    return replace(attempt, retry_at=now + attempt.windows.backoff_s)


def rejected(message: str) -> Settled:
    """Return the end of an attempt that the scheduler will never take."""
    return Settled(Status.FAILED, Cause.BAD_CONFIG, f"the scheduler refuses it: {message}", None, {"by": "submission"})


def gone() -> Settled:
    """Return the end of an attempt whose folder was deleted, or purged by its file system, before its job was accepted."""
    message = "its folder was gone before its job was accepted"
    return Settled(Status.FAILED, Cause.STORAGE, message, None, {"by": "submission"})


@dataclass(frozen=True)
class Sight:
    """Memory, observation and time together, in the words that the table is written in."""

    attempt: Attempt
    seen: Observation
    now: float

    @property
    def holder(self) -> str | None:
        """The job that took the fence, where it is known."""
        return self.attempt.job_id if self.attempt.phase is Phase.SETTLED else self.seen.start_job

    @cached_property
    def rows(self) -> list[JobRow]:
        """Jobs that count: the one that took the fence where it is known, else all of this token."""
        return [row for row in self.seen.rows if self.holder in (None, row.job_id)]

    @cached_property
    def live(self) -> list[JobRow]:
        """Jobs that count and may run, the started and the oldest first."""
        alive = [row for row in self.rows if not row.state.is_final]
        return sorted(alive, key=lambda r: (not r.state.has_started, r.submitted, r.job_id))

    @cached_property
    def twins(self) -> list[JobRow]:
        """Live jobs of this token that must not run: all but the fence's, or before any starts but the oldest."""
        alive = [row for row in self.seen.rows if not row.state.is_final]
        if self.holder or self.attempt.phase is Phase.SETTLED:
            return [row for row in alive if row.job_id != self.holder]
        return [] if self.seen.fenced or any(r.state.has_started for r in alive) else self.live[1:]

    @cached_property
    def final(self) -> JobRow | None:
        """The last ended job, where none that counts is alive."""
        if not self.seen.answered or not self.rows or self.live:
            return None
        return max(self.rows, key=lambda r: (r.started is not None, r.submitted))

    @cached_property
    def chosen(self) -> str | None:
        """The job that this attempt is, as far as is known."""
        known = [row.job_id for row in self.live] or ([self.final.job_id] if self.final else [])
        return self.seen.start_job or (self.attempt.job_id if self.attempt.job_id in known else next(iter(known), None))

    @cached_property
    def is_absent(self) -> bool:
        """Two answers without a job that counts, apart in time; longer apart while a submission is unknown."""
        windows = self.attempt.windows
        window = windows.absence_s if self.attempt.phase is Phase.SUBMITTED else max(windows.unknown_s, windows.absence_s)
        since = self.attempt.absent_since
        return self.seen.answered and not self.rows and since is not None and since < self.now and self.now - since >= window

    @cached_property
    def is_gone(self) -> bool:
        """No job can be left: ended by accounting, absent twice, or never submitted."""
        return self.final is not None or self.is_absent or (self.attempt.phase is Phase.INTENT and not self.rows)

    def is_silent(self, extra_s: float = 0.0) -> bool:
        """Say whether the heartbeat was watched standing still for its time to live, and some more."""
        return self.attempt.silence.stood_s >= self.attempt.windows.ttl_s + extra_s

    def has_waited(self, window_s: float) -> bool:
        """Say whether the end was first seen so long ago."""
        since = self.attempt.ended_since
        return since is not None and self.now - since >= window_s

    @property
    def may_ask(self) -> bool:
        """No request to end it is under way."""
        asked = self.attempt.asked_at
        return asked is None or self.now - asked >= self.attempt.windows.grace_s


@dataclass(frozen=True)
class Row:
    """One row of the decision table: it holds in this sight, then do that."""

    name: str
    holds: Callable[[Sight], bool]
    act: Callable[[Sight], Action]


def _remember(attempt: Attempt, seen: Observation, now: float) -> Attempt:
    sight = Sight(attempt, seen, now)
    absent, ended = attempt.absent_since, attempt.ended_since
    if sight.rows:  # in an answer without accounting too: what was seen counts
        absent = None
    elif seen.answered and absent is None:
        absent = now
    waits = sight.final is not None or seen.receipt is not None or attempt.phase is Phase.SETTLED
    if waits or seen.answered:
        ended = (now if ended is None else ended) if waits else None
    silence = attempt.silence.look(seen.beat, now, attempt.windows.poll_s, attempt.windows.ttl_s)
    return replace(attempt, absent_since=absent, ended_since=ended, silence=silence)


def _do(kind: Kind) -> Callable[[Sight], Action]:
    return lambda s: Action("", kind, s.attempt)


def _ask(kind: Kind, jobs: Callable[[Sight], list[JobRow]]) -> Callable[[Sight], Action]:
    return lambda s: Action("", kind, replace(s.attempt, asked_at=s.now), tuple(row.job_id for row in jobs(s)))


def _adopt(s: Sight) -> Action:
    return Action("", Kind.ADOPT, submitted(s.attempt, str(s.chosen)), (str(s.chosen),))


def _start(s: Sight) -> Action:
    return Action("", Kind.START, replace(s.attempt, started=True))


def _stop(s: Sight) -> Action:
    return Action("", Kind.STOP, replace(s.attempt, stopping=True, asked_at=s.now))


def _settle(s: Sight, settled: Settled) -> Action:
    return Action(
        "",
        Kind.SETTLE,
        replace(
            s.attempt, phase=Phase.SETTLED, settled=settled, job_id=s.chosen or s.attempt.job_id, lingers=not settled.job_ended
        ),
        settled=settled,
    )


def _by_receipt(s: Sight) -> Action:
    receipt = s.seen.receipt
    assert receipt is not None
    cost = s.final.node_hours if s.final else max(0.0, receipt.ended - receipt.started) / 3600.0 * receipt.nodes
    evidence = {**receipt.evidence, "by": "receipt", "job_id": s.chosen or s.attempt.job_id}
    ended = s.is_gone or _never_ends(s)
    return _settle(s, Settled(receipt.status, receipt.cause, receipt.message, receipt, evidence, cost, ended))


def _by_accounting(s: Sight) -> Action:
    row = s.final
    assert row is not None
    cause, message = judge(row, started=s.seen.start_job is not None)
    if row.state is JobState.CANCELLED and s.attempt.asked_at is not None and s.is_silent():
        cause, message = Cause.NODE_FAILURE, "its agent fell silent, and its job was ended"
    evidence = {"by": "accounting", "job_id": row.job_id, "state": row.state.value, "exit": row.exit, "reason": row.reason}
    if s.attempt.cancel:
        return _settle(s, Settled(Status.FAILED, None, "cancelled", None, evidence, row.node_hours))
    return _settle(s, Settled(Status.FAILED, cause, message, None, evidence, row.node_hours))


def _by_fence(s: Sight) -> Action:
    evidence, cost = {"by": "fence", "job_id": s.chosen or s.attempt.job_id}, s.final.node_hours if s.final else 0.0
    if s.attempt.cancel:
        return _settle(s, Settled(Status.FAILED, None, "cancelled before it started", None, evidence, cost))
    message = "its job was accepted, then gone from queue and accounting"
    return _settle(s, Settled(Status.FAILED, Cause.SCHEDULER, message, None, evidence, cost))


def _by_silence(s: Sight) -> Action:
    evidence = {"by": "absence and silence", "job_id": s.attempt.job_id, "beat": s.seen.beat}
    if s.attempt.cancel:
        return _settle(s, Settled(Status.FAILED, None, "cancelled", None, evidence, None))
    message = "its job is gone and its heartbeat stands still"
    return _settle(s, Settled(Status.FAILED, Cause.NODE_FAILURE, message, None, evidence, None))


def _account(s: Sight) -> Action:
    return Action("", Kind.ACCOUNT, replace(s.attempt, lingers=False), node_hours=s.final.node_hours if s.final else None)


def _is_ready(s: Sight) -> bool:
    return s.attempt.retry_at is None or s.now >= s.attempt.retry_at


def _never_ends(s: Sight) -> bool:
    """Only seen ending, and its agent silent for long: ranks without a heartbeat have ended themselves."""
    return bool(s.live) and all(r.state is JobState.ENDING for r in s.live) and s.is_silent(s.attempt.windows.grace_s)


def _has_fallen_silent(s: Sight) -> bool:
    """Running, with an agent that was seen and counts no more: a job may outlive its first node, and all its ranks.

    One look is not enough, however seldom this site allows them.
    """
    runs = any(r.state is JobState.RUNNING for r in s.live[:1])
    is_watched = s.seen.start_job is not None and s.seen.beat is not None and s.attempt.silence.looks > 1
    return runs and is_watched and s.is_silent(s.attempt.windows.ttl_s)


_WAIT = _do(Kind.WAIT)

TABLE: tuple[Row, ...] = (
    Row(
        "settled; a twin is alive",
        lambda s: s.attempt.phase is Phase.SETTLED and bool(s.twins) and s.may_ask,
        _ask(Kind.CANCEL, lambda s: [*s.twins, *(s.live if s.has_waited(s.attempt.windows.ttl_s) else [])]),
    ),
    Row(
        "settled; its job lingers",
        lambda s: s.attempt.phase is Phase.SETTLED and bool(s.live) and s.may_ask and s.has_waited(s.attempt.windows.ttl_s),
        _ask(Kind.CANCEL, lambda s: s.live),
    ),
    Row("settled; its job has ended", lambda s: s.attempt.phase is Phase.SETTLED and s.attempt.lingers and s.is_gone, _account),
    Row("settled", lambda s: s.attempt.phase is Phase.SETTLED, _WAIT),
    Row("barred; its job is alive", lambda s: s.seen.barred and bool(s.live) and s.may_ask, _ask(Kind.CANCEL, lambda s: s.live)),
    Row("barred; no job is left", lambda s: s.seen.barred and s.is_gone, _by_fence),
    Row("barred; its job may be alive", lambda s: s.seen.barred, _WAIT),
    Row("a job to adopt", lambda s: s.chosen not in (None, s.attempt.job_id), _adopt),
    Row(
        "it has started",
        lambda s: not s.attempt.started and (s.seen.start_job is not None or any(r.state.has_started for r in s.live)),
        _start,
    ),
    Row(
        "more jobs than one",
        lambda s: bool(s.twins) and s.may_ask and (s.seen.fenced or not s.attempt.cancel),  # else all are barred at once
        _ask(Kind.CANCEL, lambda s: s.twins),
    ),
    Row("receipt: done", lambda s: s.seen.receipt is not None and s.seen.receipt.status is Status.DONE, _by_receipt),
    Row("receipt; its job has ended", lambda s: s.seen.receipt is not None and s.is_gone, _by_receipt),
    Row("receipt; its job never ends", lambda s: s.seen.receipt is not None and _never_ends(s), _by_receipt),
    Row(
        "receipt; its job lingers",
        lambda s: s.seen.receipt is not None and bool(s.live) and s.may_ask and s.has_waited(s.attempt.windows.ttl_s),
        _ask(Kind.CANCEL, lambda s: s.live),
    ),
    Row("receipt; its job is ending", lambda s: s.seen.receipt is not None, _WAIT),
    Row("ended; no receipt came", lambda s: s.final is not None and s.has_waited(s.attempt.windows.absence_s), _by_accounting),
    Row("ended; a receipt may come", lambda s: s.final is not None, _WAIT),
    Row("ends for ever; silent", _never_ends, _by_silence),
    Row("unwanted; not started", lambda s: s.attempt.cancel and not s.seen.fenced, _do(Kind.FENCE)),
    Row("unwanted; not yet asked", lambda s: s.attempt.cancel and not s.attempt.stopping, _stop),
    Row(
        "unwanted; does not stop", lambda s: s.attempt.cancel and bool(s.live) and s.may_ask, _ask(Kind.CANCEL, lambda s: s.live)
    ),
    Row("running; silent for long", lambda s: _has_fallen_silent(s) and s.may_ask, _ask(Kind.CANCEL, lambda s: s.live)),
    Row("held", lambda s: any(r.state is JobState.HELD for r in s.live[:1]), _WAIT),
    Row("queued", lambda s: any(r.state is JobState.QUEUED for r in s.live[:1]), _WAIT),
    Row("running", lambda s: any(r.state is JobState.RUNNING for r in s.live[:1]), _WAIT),
    Row("ending", lambda s: bool(s.live), _WAIT),
    Row("no answer", lambda s: not s.seen.answered, _WAIT),
    Row("started; gone and silent", lambda s: s.seen.fenced and s.is_absent and s.is_silent(), _by_silence),
    Row("started; not seen", lambda s: s.seen.fenced, _WAIT),
    Row("new; not found", lambda s: s.attempt.phase is Phase.INTENT and _is_ready(s), _do(Kind.SUBMIT)),
    Row("new; refused a moment ago", lambda s: s.attempt.phase is Phase.INTENT, _WAIT),
    Row("unknown; absent for long", lambda s: s.attempt.phase is Phase.UNKNOWN and s.is_absent, _do(Kind.SUBMIT)),
    Row("submitted; absent for long", lambda s: s.is_absent, _do(Kind.FENCE)),
    Row("not seen", lambda _: True, _WAIT),
)
