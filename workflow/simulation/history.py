"""What became of a simulated campaign: its jobs and stages, and where the node-hours went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workflow.simulation.agent import Spent
from workflow.simulation.job import Job
from workflow.simulation.work import StageWork


@dataclass(frozen=True)
class JobPast:
    """One job that has started; seconds since the campaign began, node-seconds.

    Attributes:
        stage: Stage instance.
        link: Its link in the chain.
        nodes: Nodes it had.
        eligible: Since when nothing but its turn and nodes held it up.
        started: Its start.
        ended: Its end.
        how: done, partial (more remains), lost (ended by a failure), or cut (the simulation gave up).
        failed_at: When nodes of it died.
        spent: What its node-seconds were good for.
    """

    stage: str
    link: int
    nodes: int
    eligible: float
    started: float
    ended: float
    how: str
    failed_at: tuple[float, ...]
    spent: Spent

    @property
    def used(self) -> float:
        """Return its node-seconds as accounting sees them."""
        return (self.ended - self.started) * self.nodes


@dataclass(frozen=True)
class StageEnd:
    """How a stage instance stands at the end.

    Attributes:
        state: done, failed, or empty where it had not ended.
        message: Why.
        t: When, s.
    """

    state: str = ""
    message: str = ""
    t: float = 0.0


@dataclass
class History:
    """One simulated run.

    Attributes:
        works: Work of each stage instance, in the order of the plan; None where it has no jobs.
        jobs: All jobs that have started, in the order of their ends.
        ends: How each instance stands.
        answers: How often a person had to resume or approve something.
    """

    works: dict[str, StageWork | None]
    jobs: list[JobPast] = field(default_factory=list)
    ends: dict[str, StageEnd] = field(default_factory=dict)
    answers: int = 0

    def add(self, job: Job, spent: Spent, failed_at: Sequence[float], how: str, ended: float) -> None:
        """Take in a job that has ended."""
        assert job.started is not None and job.eligible is not None
        facts = job.ask.facts
        times = (job.eligible, job.started, ended)
        self.jobs.append(JobPast(facts["stage"], facts["link"], job.ask.nodes, *times, how, tuple(failed_at), spent))

    def lose(self, stage: str) -> None:
        """Take in that everything was lost which a stage had done."""
        for place, job in enumerate(self.jobs):
            if job.stage == stage and job.spent.useful:
                spent = Spent(0.0, job.spent.lost + job.spent.useful, job.spent.idle)
                self.jobs[place] = replace(job, spent=spent)

    def note_end(self, stage: str, state: str, message: str, t: float) -> None:
        """Take in how a stage has ended; a person may resume it later."""
        self.ends[stage] = StageEnd(state, message, t)

    @property
    def asked(self) -> float:
        """Return the node-seconds of all work that there was to do."""
        return sum(work.node_s for work in self.works.values() if work is not None)

    def share(self, stage: str) -> float:
        """Return the share of a stage instance's work that stands."""
        work = self.works[stage]
        return 0.0 if work is None else work.share

    @property
    def state(self) -> str:
        """Return done, failed, or unfinished where the simulation gave up."""
        states = [self.ends.get(key, StageEnd()).state for key in self.works]
        if all(state == "done" for state in states):
            return "done"
        return "failed" if "failed" in states and not any(job.how == "cut" for job in self.jobs) else "unfinished"

    @property
    def ended(self) -> float:
        """Return when the last job or stage ended, s."""
        return max((*(job.ended for job in self.jobs), *(end.t for end in self.ends.values())), default=0.0)

    def of(self, stages: Sequence[str]) -> list[JobPast]:
        """Return the jobs of some stage instances."""
        return [job for job in self.jobs if job.stage in stages]
