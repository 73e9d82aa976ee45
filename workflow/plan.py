"""What a campaign asks of its site before anything is submitted: jobs, node-hours, refusals and what would fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import yaml

from workflow.campaign import Campaign, stage_kind
from workflow.queues import offered, takes
from workflow.site import Queue, Site
from workflow.stages.base import StageSpec


@dataclass(frozen=True)
class Refusal:
    """Why a site would not take a stage's job.

    Attributes:
        key: The key of the stage that is too much: `nodes`, `walltime` or `spares`.
        rule: The site's rule beside what was asked.
        source: Where the site says so.
        fits: Values of the stage's keys that the site would take; empty where nothing would.
    """

    key: str
    rule: str
    source: str
    fits: dict[str, Any]

    def block(self, site: str) -> str:
        """Return the `on:` block that would fit, as a line of YAML."""
        text: str = yaml.safe_dump({site: self.fits}, default_flow_style=True, sort_keys=False, width=1000)
        return f"on: {text.strip()}"


@dataclass(frozen=True)
class PlannedStage:
    """One stage as the site will see it.

    Attributes:
        name: Name in the file.
        kind: Stage kind.
        instances: How many times it runs; more than one where `each` fans it out.
        links: Most jobs in each instance's chain.
        nodes: Nodes of one job, spares included; 0 on the login node.
        spares: Of these, kept aside.
        ranks: Ranks that can work at once.
        walltime_s: Seconds of one job.
        queue: Queue that takes it, or empty.
        refusals: Why none does.
    """

    name: str
    kind: str
    instances: int
    links: int
    nodes: int
    spares: int
    ranks: int
    walltime_s: float
    queue: str
    refusals: tuple[Refusal, ...]

    @property
    def node_hours(self) -> float:
        """Return the most that this stage can cost when no link is repeated."""
        return self.instances * self.links * self.nodes * self.walltime_s / 3600


@dataclass(frozen=True)
class Plan:
    """A campaign's demands on one site.

    Attributes:
        name: The campaign's name.
        site: The site.
        stages: In the order in which they can run.
        budget: Upper limit in node-hours, or None.
    """

    name: str
    site: Site
    stages: tuple[PlannedStage, ...]
    budget: float | None

    @property
    def node_hours(self) -> float:
        """Return the most that the campaign can cost when no link is repeated."""
        return sum(stage.node_hours for stage in self.stages)

    @property
    def refused(self) -> bool:
        """Say whether the site would refuse a stage."""
        return any(stage.refusals for stage in self.stages)

    def beyond_budget(self) -> list[str]:
        """Return the stages that would be held, when each costs what it may."""
        spent, held = 0.0, []
        for stage in self.stages:
            if self.budget is not None and spent + stage.node_hours > self.budget:
                held.append(stage.name)
            else:
                spent += stage.node_hours
        return held


def make_plan(campaign: Campaign) -> Plan:
    """Lay a campaign out on its site."""
    counts: dict[str, int] = {}
    for instance in campaign.instances():
        counts[instance.stage] = counts.get(instance.stage, 0) + 1
    stages = tuple(_planned(name, campaign.stages[name], count, campaign.site) for name, count in counts.items())
    budget = campaign.header.budget
    return Plan(campaign.name, campaign.site, stages, budget.node_hours if budget else None)


def walltime_text(seconds: float) -> str:
    """Return seconds as `HH:MM:SS`, the form that a campaign file takes."""
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _planned(name: str, spec: StageSpec, count: int, site: Site) -> PlannedStage:
    if stage_kind(spec.kind).on_login:
        return PlannedStage(name, spec.kind, count, 1, 0, 0, 0, 0.0, "login", ())
    nodes = spec.nodes or 1
    queue = next((each for each in offered(site, spec.queue) if takes(each, nodes, spec.walltime_s)), None)
    ranks = max(nodes - spec.spares, 0) * site.node.devices
    refusals = tuple(_refusals(site, nodes, spec, queue))
    taken = queue.name if queue and not refusals else ""
    return PlannedStage(name, spec.kind, count, spec.links, nodes, spec.spares, ranks, spec.walltime_s, taken, refusals)


def _refusals(site: Site, nodes: int, spec: StageSpec, queue: Queue | None) -> list[Refusal]:
    if spec.spares >= nodes:
        rule = f"{spec.spares} spare of {_nodes(nodes)} leave none to work on"
        return [Refusal("spares", rule, "spares are part of a job's nodes", _fitting(site, nodes, spec))]
    own = f"site file of {site.name}"
    if nodes > site.nodes:
        return [Refusal("nodes", f"{_nodes(nodes)} asked, {site.name} has {site.nodes}", own, _fitting(site, nodes, spec))]
    if queue is not None:
        return []
    sized = [each for each in site.queues if _takes(each, nodes)]
    if not sized:
        sizes = ", ".join(f"{each.name} {each.min_nodes}-{each.max_nodes}" for each in site.queues)
        sources = "; ".join(dict.fromkeys(each.source for each in site.queues if each.source))
        return [Refusal("nodes", f"no queue takes {_nodes(nodes)} ({sizes})", sources or own, _fitting(site, nodes, spec))]
    longest = max(sized, key=lambda each: each.max_walltime_h)
    most = walltime_text(longest.max_walltime_h * 3600)
    rule = f"{walltime_text(spec.walltime_s)} asked, the longest job of {_nodes(nodes)} is {most} (queue {longest.name})"
    return [Refusal("walltime", rule, longest.source or own, _fitting(site, nodes, spec))]


def _nodes(count: int) -> str:
    return f"{count} node{'s' * (count != 1)}"


def _takes(queue: Queue, nodes: int) -> bool:
    return queue.min_nodes <= nodes <= queue.max_nodes


def _fitting(site: Site, nodes: int, spec: StageSpec) -> dict[str, Any]:
    """Return the keys to change for the nearest job that a queue takes, with links enough for the same node-hours."""
    offers = [_offer(queue, site, nodes, spec) for queue in site.queues if queue.min_nodes <= site.nodes]
    if not offers:
        return {}
    _, count, walltime_s, links = min(offers)
    asked = {"nodes": nodes, "walltime": walltime_text(spec.walltime_s), "links": spec.links, "spares": spec.spares}
    given = {"nodes": count, "walltime": walltime_text(walltime_s), "links": links, "spares": min(spec.spares, count - 1)}
    return {key: value for key, value in given.items() if value != asked[key]}


def _offer(queue: Queue, site: Site, nodes: int, spec: StageSpec) -> tuple[tuple[float, int], int, float, int]:
    """Return (distance from what was asked, nodes, walltime, links) of the nearest job of a queue; small is near."""
    count = min(max(nodes, queue.min_nodes), queue.max_nodes, site.nodes)
    walltime_s = min(spec.walltime_s, queue.max_walltime_h * 3600)
    links = max(spec.links, math.ceil(spec.links * nodes * spec.walltime_s / (count * walltime_s)))
    return (abs(math.log(count / nodes)), links), count, walltime_s, links
