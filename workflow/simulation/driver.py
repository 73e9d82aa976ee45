"""A campaign carried through the batch system in memory by the decisions of the real driver: chain, budget, queues, ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.outcome import Cause, Status
from workflow import budget, chain
from workflow.campaign import Campaign, Instance, stage_kind
from workflow.ledger import Ledger, StageEntry
from workflow.queues import queue_for
from workflow.simulation.agent import Ended, Rights, SimulatedAgent, Times
from workflow.simulation.assumptions import DAY_S, HOUR_S, Assumptions
from workflow.simulation.history import History
from workflow.simulation.job import Ask, Job, Refused
from workflow.simulation.work import StageWork, work_of
from workflow.simulation.world import World

_OVER = ("done", "failed", "cancelled")


@dataclass
class Carried:
    """One stage instance on its way.

    Attributes:
        instance: The instance.
        queue: Its queue's name.
        chains: Whether jobs may wait there for one another.
        work: Its work; a stage on the login node has none.
        has_begun: Everything that it needs is done.
        answers: How often a person has resumed or approved it.
        tokens: Attempts that were written down, in all its rounds.
        lost_all: How often everything that it had done was lost.
    """

    instance: Instance
    queue: str
    chains: bool
    work: StageWork | None
    has_begun: bool = False
    answers: int = 0
    tokens: int = 0
    lost_all: int = 0

    @property
    def key(self) -> str:
        """Its instance's key."""
        return self.instance.key

    def entry(self, ledger: Ledger) -> StageEntry:
        """Return what the ledger says of it."""
        return ledger.stage(self.key)


class Simulation:
    """One run of a campaign; same campaign, assumptions and seed: same history.

    Args:
        campaign: The campaign, resolved for a site that takes all its stages.
        assumed: What is taken for granted.
        seed: Draws the waits, and when and where nodes fail.
    """

    def __init__(self, campaign: Campaign, assumed: Assumptions, seed: str) -> None:
        site = campaign.site
        self._campaign, self._assumed, self._site = campaign, assumed, site
        self._ledger = Ledger([{"event": "created", "campaign_id": seed}])
        self._world = World(site, assumed, seed, self._start, self._job_ended)
        self._stages = {each.key: self._carried(each) for each in campaign.instances()}
        self._refused: list[Ask] = []
        self._asked = 0
        self._past = History({key: each.work for key, each in self._stages.items()})

    def run(self) -> History:
        """Carry the campaign to its end, or to the horizon."""
        horizon = self._assumed.horizon_days * DAY_S
        world = self._world
        self._begin_ready()
        world.hear(0.0)
        while self._is_under_way() and (now := world.due()) <= horizon:
            world.step(now)
        if world.agents:
            world.hear(horizon)
        for job_id, agent in world.agents.items():
            agent.cut(horizon)
            self._past.add(world.model.jobs[job_id], agent.spent, agent.failed_at, "cut", horizon)
        return self._past

    def _carried(self, instance: Instance) -> Carried:
        spec, kind = instance.spec, stage_kind(instance.spec.kind)
        if kind.on_login:
            return Carried(instance, "", False, None)
        queue = queue_for(self._site, spec.nodes or 1, spec.walltime_s, spec.queue)
        work = work_of(spec, instance.key, kind.pieces(spec, self._campaign), self._site, self._assumed)
        return Carried(instance, queue.name, queue.chains, work)

    def _is_under_way(self) -> bool:
        return self._asked > 0 or any(each.entry(self._ledger).open for each in self._stages.values())

    def _start(self, job: Job) -> SimulatedAgent:
        """Give a job that has started its agent."""
        stage, entry = self._stages[job.ask.facts["stage"]], self._ledger.by_token[job.ask.name]
        self._commit("started", token=entry.token)
        assert stage.work is not None and job.started is not None
        spec, assumed = stage.instance.spec, self._assumed
        working_s = self._site.periods.working_s(spec.walltime_s)
        stop_at, start_s = job.started + working_s, assumed.start_up_s(working_s)
        times = Times(job.started, start_s, assumed.notice_s + start_s, assumed.notice_s, stop_at, job.limit_at)
        before = [each for each in stage.entry(self._ledger).attempts if each.counts]
        repeats = bool(before) and before[-1].status is Status.FAILED or stage.lost_all > 0 and not before
        rights = Rights(spec.attempts, entry.link >= entry.intent["links"], repeats)
        return SimulatedAgent(job.nodes, spec.spares, stage.work, times, rights)

    def _job_ended(self, job: Job, agent: SimulatedAgent, ended: Ended) -> None:
        """Settle the attempt of a job that has ended, and do the next step of its stage."""
        how = "lost" if ended.status is Status.FAILED else ended.status.value
        self._past.add(job, agent.spent, agent.failed_at, how, self._world.now)
        stage = self._stages[job.ask.facts["stage"]]
        self._settle(job, ended)
        if ended.node and self._assumed.policy == "rerun-stage":
            self._begin_anew(stage)
        self._advance(stage)
        self._look_again()
        self._hand_in()

    def _settle(self, job: Job, ended: Ended) -> None:
        used = 0.0 if job.started is None else job.ask.nodes * (self._world.now - job.started) / HOUR_S
        cause = ended.cause.value if ended.cause else None
        self._commit(
            "settled", token=job.ask.name, status=ended.status.value, cause=cause, message=ended.message, node_hours=used
        )
        self._world.model.forget(job)

    def _begin_anew(self, stage: Carried) -> None:
        """Lose all that a stage has done, as an engine does that knows whole stages only."""
        self._cancel_open(stage)
        assert stage.work is not None
        stage.work.reset()
        stage.lost_all += 1
        self._past.lose(stage.key)
        self._ledger.stages[stage.key] = StageEntry(stage.key)

    def _begin_ready(self) -> None:
        """Set the stages going whose needs are done."""
        for stage in self._stages.values():
            if stage.has_begun or any(self._ledger.stage(need).state != "done" for need in stage.instance.needs):
                continue
            stage.has_begun = True
            if stage.work is None:
                self._end(stage, "done")
            else:
                self._advance(stage)

    def _advance(self, stage: Carried) -> None:
        """Do the next step of a stage's chain, as `StageRun.advance` does."""
        if stage.entry(self._ledger).state in _OVER:
            return
        step = chain.next_step(stage.entry(self._ledger), stage.instance.spec)
        if step.do == "launch":
            self._launch(stage, step.link, step.attempt)
        elif step.do == "wait":
            self._look_ahead(stage)
        else:
            self._end(stage, step.do, step.cause, step.message)

    def _look_ahead(self, stage: Carried) -> None:
        """Submit the links behind those that are submitted, where queue and budget allow it."""
        ahead = chain.link_ahead(stage.entry(self._ledger), stage.instance.spec)
        if ahead is not None and stage.chains and self._fits(stage):
            self._launch(stage, ahead[0], chain.next_number(stage.entry(self._ledger), ahead[0]), ahead[1])

    def _look_again(self) -> None:
        """Let what was held or had no room go on, now that something has ended or was approved."""
        for stage in self._stages.values():
            entry = stage.entry(self._ledger)
            if stage.has_begun and stage.work is not None and entry.state == "held" and not entry.open:
                self._advance(stage)
            elif stage.has_begun and stage.work is not None:
                self._look_ahead(stage)

    def _fits(self, stage: Carried) -> bool:
        limit = None if self._assumed.policy == "rerun-stage" else self._campaign.header.budget
        return budget.fits(limit, self._ledger, stage.key, budget.link_cost(stage.instance.spec))

    def _launch(self, stage: Carried, link: int, number: int, after: tuple[str, ...] = ()) -> None:
        if not self._fits(stage):
            self._hold(stage)
            return
        spec, stage.tokens = stage.instance.spec, stage.tokens + 1
        name = f"{stage.key} {stage.tokens}"
        facts = {"stage": stage.key, "link": link, "attempt": number, "token": name}
        links = chain.most_links(stage.entry(self._ledger), spec)
        self._commit("intent", **facts, node_hours=budget.link_cost(spec), links=links, after=list(after))
        self._refused.append(Ask(name, spec.nodes or 1, spec.walltime_s, stage.queue, after, facts=facts))
        self._hand_in()

    def _hand_in(self) -> None:
        """Submit what was written down; what a limit refuses is handed in again later."""
        left, self._refused = self._refused, []
        for ask in left:
            if not self._ledger.by_token[ask.name].is_open:
                continue
            try:
                job = self._world.model.submit(ask)
            except Refused:
                self._refused.append(ask)
                continue
            self._commit("submitted", token=ask.name, job_id=job.id)
            self._look_ahead(self._stages[ask.facts["stage"]])

    def _hold(self, stage: Carried) -> None:
        if stage.entry(self._ledger).state != "held":
            self._commit("stage", stage=stage.key, state="held", cause="approval", message="")
            self._ask_person(stage, lambda: self._approve(stage))

    def _approve(self, stage: Carried) -> None:
        entry, spec = stage.entry(self._ledger), stage.instance.spec
        if entry.state != "held":  # what others left unused has let it go on meanwhile
            return
        cost = budget.rest_of_chain(entry, spec)[1] - (entry.allowance - entry.charged)
        self._commit("approved", id=f"{stage.key} {stage.answers}", stage=stage.key, node_hours=cost)
        self._look_again()

    def _end(self, stage: Carried, state: str, cause: Cause | None = None, message: str = "") -> None:
        self._commit("stage", stage=stage.key, state=state, cause=cause.value if cause else None, message=message)
        self._past.note_end(stage.key, state, message, self._world.now)
        self._cancel_open(stage)
        if state == "done":
            self._begin_ready()
        else:
            self._ask_person(stage, lambda: self._resume(stage))

    def _resume(self, stage: Carried) -> None:
        self._commit("resumed", stage=stage.key)
        self._advance(stage)

    def _ask_person(self, stage: Carried, act: Callable[[], None]) -> None:
        """Let a person do something about a stage some hours later, if that was not done too often."""
        if stage.answers >= self._assumed.answers:
            return
        stage.answers += 1
        self._asked += 1
        self._past.answers += 1

        def answer() -> None:
            self._asked -= 1
            act()

        self._world.later(self._assumed.answer_h, answer)

    def _cancel_open(self, stage: Carried) -> None:
        """Take the jobs of a stage out of the queue that wait there."""
        for entry in stage.entry(self._ledger).open:
            job = self._world.model.jobs.get(entry.job_id or "")
            if job is None:
                self._commit("settled", token=entry.token, status="failed", cause=None, message="", node_hours=0.0)
            else:
                self._world.model.cancel(job.id)
                self._settle(job, Ended(Status.FAILED, None, "not needed any more"))

    def _commit(self, event: str, **fact: Any) -> None:
        self._ledger.apply({"event": event, **fact})
