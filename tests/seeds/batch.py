"""The batch system as a driver of a history meets it: what it is told may be late, wrong or nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from seeds.weather import QUERY, SUBMIT, WINDOW_S
from workflow.batch.scheduler import JobRow, JobSpec, JobState, Scheduler, Snapshot
from workflow.errors import SchedulerError
from workflow.simulation.job import Ask, Job

if TYPE_CHECKING:
    from seeds.world import World

_STRANGER = "analysis"  # name of jobs of this user that are of no campaign
_HIDES_S = 0.8 * WINDOW_S
_LASTS_S = {
    **dict.fromkeys(("empty with exit 0", "stale", "row missing"), (1.0, _HIDES_S)),
    "stale for long": (WINDOW_S, 4000.0),
}


class Batch(Scheduler):
    """Answers of the model, as the weather lets them through.

    Args:
        world: The history.
        seed: Of what is drawn here.

    Attributes:
        shown: Jobs that the last answer showed alive, that are, and that nobody has ended yet.
        outage: From when to when it does not answer.
    """

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world.campaign.site)
        self._world, self._rng = world, random.Random(seed)
        self._hidden: dict[str, float] = {}
        self._strangers: dict[str, tuple[float, float]] = {}
        self._blind: tuple[str, float, Snapshot] = ("", -1.0, Snapshot(()))
        self.shown: list[Job] = []
        self.outage = (-1.0, -1.0)

    def submit(self, spec: JobSpec) -> str:
        world, where = self._world, str(spec.workdir)
        if self._is_out():
            raise SchedulerError("no controller", where)
        if not spec.script.exists():
            raise SchedulerError("no such script", where)
        fault = world.weather.one_of(SUBMIT, world.now)
        if fault == "refused for now":
            raise SchedulerError("too many jobs", where)
        if fault == "refused for good":
            raise SchedulerError("no such queue", where, transient=False)
        if fault == "lost on the way":
            raise SchedulerError("no answer", where, unknown=True)
        job = world.accept(Ask(spec.token, spec.nodes, spec.walltime_s, after=spec.after, facts={"workdir": where}))
        if fault == "vanishes":
            world.at(world.now + self._rng.uniform(0, 1000), lambda: world.vanish(job))
        if fault.startswith("appears"):
            self._hidden[job.id] = world.now + self._rng.uniform(1, _HIDES_S)
        if fault == "appears very late":
            self._hidden[job.id] += self._rng.uniform(300, 5000)
            world.hold(job, self._hidden[job.id] + self._rng.uniform(0, 3000))
        if fault in ("accepted after time-out", "appears very late"):
            raise SchedulerError("no answer", where, unknown=True)
        return job.id

    def snapshot(self) -> Snapshot:
        world = self._world
        if self._is_out():
            raise SchedulerError("no controller")
        name, until, old = self._blind
        if world.now >= until:
            name, old = world.weather.one_of(QUERY, world.now), self._true()
            lasting = self._rng.uniform(*_LASTS_S[name]) if name in _LASTS_S else 0.0
            self._blind = (name, world.now + lasting, old)
        snapshot = self._seen(name, old)
        living = [job for job in world.model.jobs.values() if not job.state.is_final]
        world.truth.seen({job.ask.name for job in living}, {row.token for row in snapshot.rows}, WINDOW_S)
        alive = {row.job_id for row in snapshot.rows if not row.state.is_final}
        self.shown = [job for job in living if job.id in alive and job.state is not JobState.ENDING]
        return snapshot

    def cancel(self, job_id: str, token: str) -> None:
        world = self._world
        if job_id in self._strangers and token == _STRANGER:
            world.truth.broken.append(f"R2 a driver asks for the end of somebody else's job, which has the id {job_id} now")
            return
        world.truth.asked[job_id].append(world.now)
        job, run = world.model.jobs.get(job_id), world.runs.get(job_id)
        is_meant = job is not None and job.ask.name == token
        if job is not None and is_meant and run is not None and run.is_well and job.state is JobState.RUNNING:
            world.truth.asked_in_health[job_id].append(world.now)
        if self._is_out() or world.weather.strikes("cancel unanswered", world.now):
            raise SchedulerError("no answer", job_id)
        if job is None or not is_meant:
            return
        if job.is_running and world.weather.strikes("cancel ignored", world.now):
            return
        world.model.cancel(job_id)

    def hide(self, job: Job) -> None:
        """Let a job appear a little later than it was accepted."""
        self._hidden[job.id] = self._world.now + self._rng.uniform(_HIDES_S / 2, _HIDES_S)
        self._world.weather.hits["appears later"] += 1

    def give_away(self, job_id: str) -> None:
        """Let the batch system begin its ids anew, so that another job of this user, of no campaign, gets this one."""
        self._strangers[job_id] = (self._world.now, self._world.now + self._rng.uniform(600, 9000))

    def _is_out(self) -> bool:
        return self.outage[0] <= self._world.now < self.outage[1]

    def _true(self) -> Snapshot:
        now = self._world.now
        jobs = self._world.model.told()
        rows = [_row(job) for job in jobs if self._hidden.get(job.id, -1.0) <= now]
        return Snapshot((*rows, *(_stranger(job_id, *times, now) for job_id, times in self._strangers.items())))

    def _seen(self, fault: str, old: Snapshot) -> Snapshot:
        if fault == "no answer":
            raise SchedulerError("no answer")
        if fault.startswith("stale"):
            return old
        rows = list(self._true().rows)
        if fault == "empty with exit 0":
            rows = []
        if fault == "row missing":
            rows = [row for row in rows if int(row.job_id) % 2]
        if fault == "reordered":
            self._rng.shuffle(rows)
        if fault == "accounting silent":
            return Snapshot(tuple(row for row in rows if not row.state.is_final), is_complete=False)
        return Snapshot(tuple(rows))


def _row(job: Job) -> JobRow:
    code = job.exit if job.state.is_final else None
    where = (job.id, job.ask.name, job.ask.facts["workdir"], job.state, code)
    started = None if job.state in (JobState.QUEUED, JobState.HELD) else job.started
    return JobRow(*where, "", job.submitted + job.order / 1e6, started, job.ended, job.ask.nodes)


def _stranger(job_id: str, began: float, ends: float, now: float) -> JobRow:
    state, code, ended = (JobState.RUNNING, None, None) if now < ends else (JobState.FAILED, 3, ends)
    return JobRow(job_id, _STRANGER, "/elsewhere", state, code, "", began, began, ended, 1)
