"""What a simulated campaign takes for granted, since nobody can know it beforehand: waits, failures, how long work takes."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from workflow.queues import queue_named
from workflow.site import Site

Policy = Literal["ours", "rerun-stage"]
POLICIES: dict[Policy, str] = {
    "ours": "a failure costs what was not checkpointed; spares step in; a broken link is taken up by the next one",
    "rerun-stage": "a failure of any node of a job loses everything that its stage did in all its jobs; no budget holds it",
}
DAY_S, HOUR_S = 86400.0, 3600.0
_NODE_DAYS = 2000.0  # a whole machine of 10,000 nodes then loses one every five hours
_TENTH = 1.2816  # standard deviations from the median of a normal distribution to its last tenth
_LEAST_WORK = 4  # a job too short for its start-up is started faster: the share of its time that this may take


@dataclass(frozen=True)
class Assumptions:
    """What is assumed; times in seconds unless a name says hours.

    Attributes:
        policy: What a failure costs.
        failures_per_day: Failures that `of_nodes` nodes see a day; None: one of each node in 2,000 days.
        of_nodes: How many nodes see so many failures; None: all of the site.
        repair_h: Hours until a failed node takes jobs again.
        notice_s: From a node's death to the end of the task on it.
        start_s: From nodes to work: health check, stage-in, start of the ranks, loading of a checkpoint.
        waits_h: Median wait by queue, over what the site's file says.
        whole_wait_h: Median wait of a job on all nodes of the site; smaller ones wait less, by the square root of their share.
        wait_spread: Nine of ten waits are shorter than so many times the median.
        work: How much work a stage has, by its name in the file: 1 fills the chain that is planned; the empty name: all others.
        checkpoint_s: Seconds between checkpoints; None: as the stage's keys say.
        answer_h: Hours until a person resumes a stage that has failed, or approves one that is held.
        answers: How often a person does that for one stage before giving it up.
        horizon_days: When the simulation gives up.
    """

    policy: Policy = "ours"
    failures_per_day: float | None = None
    of_nodes: int | None = None
    repair_h: float = 24.0
    notice_s: float = 300.0
    start_s: float = 300.0
    waits_h: Mapping[str, float] = field(default_factory=dict)
    whole_wait_h: float = 24.0
    wait_spread: float = 3.0
    work: Mapping[str, float] = field(default_factory=dict)
    checkpoint_s: float | None = None
    answer_h: float = 12.0
    answers: int = 5
    horizon_days: float = 365.0

    def machine_failures_per_day(self, site: Site) -> float:
        """Return the failures that all nodes of the site see a day."""
        if self.failures_per_day is None:
            return site.nodes / _NODE_DAYS
        return self.failures_per_day * site.nodes / (self.of_nodes or site.nodes)

    def median_wait_h(self, site: Site, queue: str, nodes: int) -> float:
        """Return the hours that half of such jobs wait at most, from their turn on."""
        told = self.waits_h.get(queue, queue_named(site, queue).wait_h)
        return self.whole_wait_h * math.sqrt(nodes / site.nodes) if told is None else told

    def wait_s(self, site: Site, queue: str, nodes: int, rng: random.Random) -> float:
        """Draw a wait: log-normal around the median."""
        return self.median_wait_h(site, queue, nodes) * HOUR_S * math.exp(rng.gauss(0.0, math.log(self.wait_spread) / _TENTH))

    def work_of(self, key: str) -> float:
        """Return how much work a stage instance has: its own, that of the stage that fans out into it, or that of all others."""
        parts = key.split("/")
        names = ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]
        return next((self.work[name] for name in names if name in self.work), 1.0)

    def start_up_s(self, working_s: float) -> float:
        """Return the seconds from nodes to work in a job that has so many till its tasks are asked to stop."""
        return min(self.start_s, working_s / _LEAST_WORK)
