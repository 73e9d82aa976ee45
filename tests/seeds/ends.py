"""Whether every job that was due to end was asked to, and whether every end is told as it was: R2, R4 and R10 at close sight."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.outcome import Cause, Status
from seeds.weather import FINAL
from workflow.batch.attempt import windows_of
from workflow.batch.scheduler import JobState
from workflow.ledger import AttemptEntry, Ledger, StageEntry
from workflow.rundir import RunDir

if TYPE_CHECKING:
    from seeds.world import World
    from workflow.simulation.job import Job

_SLOW_START_S = 600.0
_BY_STATE: dict[JobState, tuple[Cause, ...]] = {
    JobState.TIMEOUT: (Cause.WALLTIME,),
    JobState.NODE_FAIL: (Cause.NODE_FAILURE,),
    JobState.PREEMPTED: (Cause.PREEMPTED,),
    JobState.OUT_OF_MEMORY: (Cause.OOM,),
    JobState.CANCELLED: (Cause.SCHEDULER, Cause.NODE_FAILURE),
    JobState.COMPLETED: (Cause.SCHEDULER, Cause.STORAGE),
}
_BY_EXIT: dict[int | None, tuple[Cause, ...]] = {
    3: (Cause.NODE_FAILURE,),
    137: (Cause.NODE_FAILURE,),
    143: (Cause.PREEMPTED,),
}
_BY_OTHER: dict[str, tuple[Cause, ...]] = {
    "fence": (Cause.SCHEDULER,),
    "absence and silence": (Cause.NODE_FAILURE,),
}


@dataclass(frozen=True)
class Told:
    """What a history's journal says, with the true times of its lines.

    Attributes:
        ledger: Its fold.
        settled: The line that settled each attempt, by token.
        over: When an attempt was settled or barred, by token; what came first.
        unwanted: When a stage's end was asked for, or had come.
    """

    ledger: Ledger
    settled: dict[str, tuple[float, dict[str, Any]]]
    over: dict[str, float]
    unwanted: dict[str, float]

    def due(self, token: str) -> float | None:
        """Return from when on no job of an attempt is wanted any more."""
        entry = self.ledger.by_token.get(token)
        times = [self.over.get(token), self.unwanted.get(entry.stage) if entry else None]
        return min((t for t in times if t is not None), default=None)


def told(world: World, events: list[dict[str, Any]]) -> Told:
    """Read what the journal says; lines of displaced drivers say nothing."""
    accepted = {(line["epoch"], line["seq"]) for line in events}
    made = Told(Ledger(events), {}, {}, {})
    for t, epoch, line in world.truth.events:
        if (epoch, line["seq"]) not in accepted:
            continue
        if line["event"] == "settled":
            made.settled[line["token"]] = (t, line)
        if line["event"] == "settled" or (line["event"] == "revoked" and line["barred"]):
            made.over.setdefault(line["token"], t)
        if _ends_a_stage(line):
            made.unwanted.setdefault(line["stage"], t)
    return made


def _ends_a_stage(line: dict[str, Any]) -> bool:
    return line["event"] == "cancel_requested" or (line["event"] == "stage" and line["state"] != "held")


def left_alone(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """R2, R4: a driver that sees a job alive for long which is due to end, or one too many, asks for its end."""
    windows, journal = windows_of(world.campaign.site), told(world, events)
    patience_s = windows.grace_s + windows.ttl_s
    jobs = {job.id: job for job in world.truth.jobs}
    twins: dict[tuple[int, str], dict[str, list[float]]] = defaultdict(dict)
    for (epoch, job_id), looks in world.truth.looks.items():
        job = jobs[job_id]
        twins[epoch, job.ask.name][job_id] = looks
        receipt = world.truth.receipts.get(str(job.ask.facts["workdir"]))
        before = [t for t in looks if receipt is None or t <= receipt]  # when it has stopped in order, it has time to end
        if _is_left(world, job, before, journal.due(job.ask.name), patience_s) or _is_passed_over(world, job, epoch, journal):
            yield f"R2 driver {epoch} let job {job_id} be, which was wanted no more"
        if _is_left(world, job, looks, receipt, patience_s):
            yield f"R4 driver {epoch} let job {job_id} be, which hung behind its receipt"
    for (epoch, _), each in twins.items():
        since = max(looks[0] for looks in each.values())
        long_s = patience_s + _SLOW_START_S  # until its agent has said that it began, nobody knows which of them is to stay
        left = [job_id for job_id, looks in each.items() if _is_left(world, jobs[job_id], looks, since, long_s)]
        if len(left) > 1:
            yield f"R2 driver {epoch} let jobs {left} of one token be"


def _is_passed_over(world: World, job: Job, epoch: int, journal: Told) -> bool:
    """Say whether a driver that came when an attempt was over saw another job of it, and did not ask for its end at once."""
    token = job.ask.name
    over, entry = journal.over.get(token), journal.ledger.by_token.get(token)
    if over is None or entry is None or world.truth.births[epoch] <= over or job.id == entry.job_id:
        return False
    seen, near_s = world.truth.looks[epoch, job.id][0], windows_of(world.campaign.site).grace_s
    asked = [t for each in world.truth.jobs if each.ask.name == token for t in world.truth.asked[each.id]]
    return not any(seen - near_s <= t <= seen for t in asked)  # having asked for a twin a moment ago, it waits


def _is_left(world: World, job: Job, looks: list[float], due: float | None, patience_s: float) -> bool:
    """Say whether a driver saw a job for long after its end was due, and nobody asked for it."""
    late = [t for t in looks if due is not None and t > due]
    is_seen_long = len(late) > 2 and late[-1] - late[1] >= patience_s
    return is_seen_long and not any(t >= late[0] - patience_s for t in world.truth.asked[job.id])


def cut_down(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """R10: nobody takes a job for silent, and asks for its end, whose agent is at work."""
    journal = told(world, events)
    jobs = {job.id: job for job in world.truth.jobs}
    tokens = Counter(job.ask.name for job in jobs.values())
    first: dict[str, tuple[int, int]] = {}
    for line in filter(_ends_a_stage, events):
        first.setdefault(line["stage"], (line["epoch"], line["seq"]))
    timed = {(epoch, line["seq"]) for _, epoch, line in world.truth.events}
    untimed = {stage for stage, place in first.items() if place not in timed}  # it stands, and the disk said that it does not
    for job_id, times in world.truth.asked_in_health.items():
        token = jobs[job_id].ask.name
        due = journal.due(token)
        entry = journal.ledger.by_token.get(token)
        is_untimed = entry is not None and entry.stage in untimed
        if tokens[token] == 1 and not is_untimed and any(due is None or t < due for t in times):
            yield f"R10 job {job_id} was asked to end, which was at work and wanted"


def mistold(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """R10: each end has the cause that it truly had, and nobody is told to have ended who had not."""
    told_now = told(world, events)
    jobs = {job.id: job for job in world.truth.jobs}
    unwanted: dict[str, int] = {}
    for each in events:
        if _ends_a_stage(each):
            unwanted.setdefault(each["stage"], each["seq"])
    for token, (t, line) in told_now.settled.items():
        entry = told_now.ledger.by_token[token]
        job = jobs.get(str(line["evidence"].get("job_id")))
        is_unwanted = unwanted.get(entry.stage, line["seq"]) < line["seq"]
        lawful = _lawful(world, entry, line, job)
        if entry.cause not in lawful and not (entry.cause is None and is_unwanted and lawful):
            yield f"R10 {token} ended by {line['evidence']['by']} with cause {entry.cause}, lawful: {[*map(str, lawful)]}"
        if job is not None and line["job_ended"] and not _had_ended(world, job, t):
            yield f"R10 job {job.id} is told to have ended, and was {job.state.value}"


def _lawful(world: World, entry: AttemptEntry, line: dict[str, Any], job: Job | None) -> tuple[Cause | None, ...]:
    """Return the causes that an end may have had."""
    by = line["evidence"]["by"]
    folder = str(RunDir(world.folder).attempt(entry.stage, entry.link, entry.number).root)
    if by == "receipt":
        status, cause = world.truth.ends[folder]
        return (cause,) if status is entry.status else ()
    if by == "submission":
        return (Cause.STORAGE if folder in world.truth.purged else Cause.BAD_CONFIG,)
    if by != "accounting":
        return _BY_OTHER.get(by, ())
    if job is None or job.runs > 1:
        return tuple(Cause)
    return _BY_EXIT.get(job.exit, ()) if job.state is JobState.FAILED else _BY_STATE.get(job.state, ())


def _had_ended(world: World, job: Job, t: float) -> bool:
    """Say whether a job had ended by then; or could only be taken for it: forgotten, hidden for long, or ending for ever."""
    is_excused = job.id in world.truth.vanished | world.truth.endless or job.ask.name in world.truth.fooled
    return is_excused or job.runs > 1 or (job.ended is not None and job.ended <= t)


def needless(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """R10: a campaign that is not done was ended by a fault that time does not mend, or by more faults than it has attempts."""
    if world.code in (None, 0) or any(world.weather.hits[name] for name in FINAL):
        return
    failed = {key: entry for key, entry in Ledger(events).stages.items() if entry.state == "failed"}
    for key, entry in failed.items():
        if not _is_spent(world, entry, world.campaign.stages[key].attempts):
            yield f"R10 {key} failed without need: {entry.message}"
    if not failed or not world.weather.hits:
        yield f"R10 the campaign ends with {world.code} after {dict(world.weather.hits)}"


def _is_spent(world: World, entry: StageEntry, attempts: int) -> bool:
    """Say whether a stage had failed as often as it may, or used up all its links."""
    ended = [each for each in entry.attempts if each.counts]
    last = max(ended, key=lambda each: (each.link, each.number))
    tries = [each for each in ended if each.link == last.link and each.status is Status.FAILED]
    return len(tries) >= attempts or (last.status is Status.PARTIAL and last.link >= world.campaign.stages[entry.key].links)
