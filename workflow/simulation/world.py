"""The world of a simulated campaign: batch system, agents of running jobs, nodes that fail and are mended, and a clock."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

from model.outcome import Status
from workflow.simulation.agent import Ended, SimulatedAgent
from workflow.simulation.assumptions import DAY_S, HOUR_S, Assumptions
from workflow.simulation.job import Ask, Job, Rules, What
from workflow.simulation.model import Model
from workflow.site import Site

_LATE_S = 1.0  # an agent without a stop margin ends at the very end of its walltime, and not a moment after it


class World:
    """Everything that is not the driver.

    Args:
        site: Its nodes and limits.
        assumed: What is taken for granted.
        seed: Draws the waits, and when and where nodes fail.
        started: Called with a job that has started; gives its agent.
        ended: Called with a job that has ended, its agent, and how.
    """

    def __init__(
        self,
        site: Site,
        assumed: Assumptions,
        seed: str,
        started: Callable[[Job], SimulatedAgent],
        ended: Callable[[Job, SimulatedAgent, Ended], None],
    ) -> None:
        self.model = Model(
            [f"n{number}" for number in range(site.nodes)], Rules(site.limits, wait=self._wait_s, notice_s=_LATE_S)
        )
        self.agents: dict[str, SimulatedAgent] = {}
        self._site, self._assumed, self._seed, self._started, self._ended = site, assumed, seed, started, ended
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._fate = random.Random(f"{seed}/failures")  # noqa: S311 a history to be repeated, not a secret
        self._rate = assumed.machine_failures_per_day(site) / DAY_S
        self._nodes = self.model.free()
        self._fails_at = self._next_failure(0.0)

    @property
    def now(self) -> float:
        """Seconds since the campaign began."""
        return self.model.now

    def due(self) -> float:
        """Return when something happens next."""
        agents = min((agent.due() for agent in self.agents.values()), default=math.inf)
        coming = self._coming[0][0] if self._coming else math.inf
        return max(self.now, min(self.model.due(), agents, coming, self._fails_at))

    def step(self, now: float) -> None:
        """Let time pass, not beyond `due`, and everything happen that happens then."""
        self.hear(now)
        while self._coming and self._coming[0][0] <= now:
            heapq.heappop(self._coming)[2]()
        if self._fails_at <= now:
            self._fails_at = self._next_failure(now)
            self._fail(self._fate.choice(self._nodes))
        for job_id, agent in list(self.agents.items()):
            if job_id in self.agents and agent.due() <= now:
                self._take_in(self.model.jobs[job_id], agent, agent.advance(now))
        self.hear(now)

    def hear(self, now: float) -> None:
        """Let the batch system come to a time, and the agents of what it starts begin."""
        for happening in self.model.advance(now):
            if happening.what is What.STARTED:
                self.agents[happening.job.id] = self._started(happening.job)

    def later(self, hours: float, act: Callable[[], None]) -> None:
        """Do something some hours from now."""
        self._count += 1
        heapq.heappush(self._coming, (self.now + hours * HOUR_S, self._count, act))

    def _wait_s(self, _: random.Random, ask: Ask) -> float:
        """Draw a job's wait from its name, so that it waits as long whatever else is assumed."""
        rng = random.Random(f"{self._seed}/wait/{ask.name}")  # noqa: S311
        return self._assumed.wait_s(self._site, ask.queue, ask.nodes, rng)

    def _next_failure(self, now: float) -> float:
        return now + self._fate.expovariate(self._rate) if self._rate else math.inf

    def _fail(self, node: str) -> None:
        """Let a node die, and with it what its job loses by that."""
        job = None if node in self.model.down else self._break(node, kills_job=False)
        if job is None:
            return
        agent = self.agents[job.id]
        ended = agent.advance(self.now)
        if ended is None and self._assumed.policy == "rerun-stage":
            agent.die(node)
        elif ended is None:
            ended = agent.fail(node)
        self._take_in(job, agent, ended)

    def _break(self, node: str, *, kills_job: bool) -> Job | None:
        self.later(self._assumed.repair_h, lambda: self.model.mend_node(node))
        return self.model.fail_node(node, kills_job=kills_job)

    def _take_in(self, job: Job, agent: SimulatedAgent, ended: Ended | None) -> None:
        if ended is None:
            return
        if ended.node:
            self._break(ended.node, kills_job=True)
        else:
            self.model.finish(job, int(ended.status is Status.FAILED))
        del self.agents[job.id]
        self._ended(job, agent, ended)
