"""What a campaign asks of its site before anything is submitted: jobs, node-hours, order of release, refusals."""

from __future__ import annotations

from dataclasses import dataclass

from workflow.campaign import Campaign, Paper, stage_kind
from workflow.queues import offered, takes
from workflow.refusal import Refusal, refusals, trial_nodes
from workflow.releases import Round, Wanted, longest_s, rounds
from workflow.site import Site
from workflow.stages.base import StageSpec
from workflow.volume import store_bytes, unique_structures


@dataclass(frozen=True)
class PlannedStage:
    """One stage as the site will see it; a stage on the login node has no nodes.

    Attributes:
        name: Name in the file; of a variant, `search/egnn`.
        kind: Stage kind.
        instances: How many times it runs; more than one where `each` fans it out.
        links: Most jobs in each instance's chain.
        nodes: Nodes of one job, spares included; 0 on the login node.
        spares: Of these, kept aside.
        devices: Devices of one job.
        ranks: Ranks that can work at once.
        walltime_s: Seconds of one job.
        working_s: Of these, until its tasks are asked to write checkpoints: the site's stop margin is left out.
        queue: Queue that takes it, or empty.
        reads: Branches and sources whose stores every node gets.
        staged_bytes: Bytes that every node gets, estimated; None where nobody can say.
        slots: Trials that run side by side; None for a stage without trials.
        evaluations: Trials at most; None for a stage without trials.
        trainings: How many trainings an instance compares, where its keys multiply to it; 0 elsewhere.
        product: What is multiplied, in words.
        refusals: Why no queue takes it.
    """

    name: str
    kind: str
    instances: int
    links: int = 1
    nodes: int = 0
    spares: int = 0
    devices: int = 0
    ranks: int = 0
    walltime_s: float = 0.0
    working_s: float = 0.0
    queue: str = "login"
    reads: tuple[str, ...] = ()
    staged_bytes: int | None = 0
    slots: int | None = None
    evaluations: int | None = None
    trainings: int = 0
    product: str = ""
    refusals: tuple[Refusal, ...] = ()

    @property
    def trial_s(self) -> float | None:
        """Return the seconds of work that a trial may take if all are to fit into the chain; None where none fits."""
        if not self.slots or not self.evaluations:
            return None
        return self.links * self.working_s / -(-self.evaluations // self.slots)

    @property
    def node_hours(self) -> float:
        """Return the most that this stage can cost when no link is repeated."""
        return self.instances * self.links * self.nodes * self.walltime_s / 3600


@dataclass(frozen=True)
class DataVolume:
    """What the branches hold, as published.

    Attributes:
        branches: Number of branches.
        unique: Different structures in all branches together.
        unknown: Branches that cannot be counted before they are converted.
        store_bytes: Bytes of their stores, estimated; None where nobody can say.
    """

    branches: int
    unique: int
    unknown: tuple[str, ...]
    store_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """A campaign's demands on one site.

    Attributes:
        name: The campaign's name.
        site: The site.
        stages: In the order in which they can run.
        budget: Upper limit in node-hours, or None.
        rounds: The order in which the site's job limits let the jobs go.
        longest_s: Seconds from begin to end at full walltime, if the machine is the campaign's alone.
        data: What the branches hold.
        paper: What is being redone, for comparison.
    """

    name: str
    site: Site
    stages: tuple[PlannedStage, ...]
    budget: float | None
    rounds: tuple[Round, ...]
    longest_s: float
    data: DataVolume
    paper: Paper | None

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
    stages = tuple(_planned(name, campaign.stages[name], count, campaign) for name, count in counts.items())
    header, wanted = campaign.header, _wanted(campaign, stages)
    return Plan(
        name=campaign.name,
        site=campaign.site,
        stages=stages,
        budget=header.budget.node_hours if header.budget else None,
        rounds=tuple(rounds(campaign.site, wanted)),
        longest_s=longest_s(campaign.site, wanted),
        data=_data(campaign),
        paper=header.paper,
    )


def _planned(name: str, spec: StageSpec, count: int, campaign: Campaign) -> PlannedStage:
    kind, site = stage_kind(spec.kind), campaign.site
    if kind.on_login:
        return PlannedStage(name, spec.kind, count)
    nodes = spec.nodes or 1
    refused = tuple(refusals(site, nodes, spec))
    queue = next((each.name for each in offered(site, spec.queue) if takes(each, nodes, spec.walltime_s)), "")
    reads = kind.reads(spec, campaign)
    trial, (trainings, product) = trial_nodes(spec), kind.trainings(spec, campaign)
    return PlannedStage(
        name=name,
        kind=spec.kind,
        instances=count,
        links=spec.links,
        nodes=nodes,
        spares=spec.spares,
        devices=nodes * site.node.devices,
        ranks=max(nodes - spec.spares, 0) * site.node.devices,
        walltime_s=spec.walltime_s,
        working_s=site.periods.working_s(spec.walltime_s),
        queue="" if refused else queue,
        reads=reads,
        staged_bytes=store_bytes(campaign, reads) if reads else 0,
        slots=None if trial is None else max(nodes - spec.spares, 0) // trial,
        evaluations=getattr(spec, "evaluations", None),
        trainings=trainings,
        product=product,
        refusals=refused,
    )


def _wanted(campaign: Campaign, stages: tuple[PlannedStage, ...]) -> list[Wanted]:
    """Return all batch jobs; what waits for a stage on the login node waits for the jobs which that one waits for."""
    queues, nodes = {stage.name: stage.queue for stage in stages}, {stage.name: stage.nodes for stage in stages}
    jobs: list[Wanted] = []
    last: dict[str, tuple[str, ...]] = {}
    for instance in campaign.instances():
        key = instance.key
        last[key] = tuple(dict.fromkeys(name for need in instance.needs for name in last[need]))
        if stage_kind(instance.spec.kind).on_login:
            continue
        stage, spec = instance.stage, instance.spec
        for number in range(1, spec.links + 1):
            name = _job_name(key, number, spec.links)
            jobs.append(Wanted(name, queues[stage], last[key], spec.walltime_s, nodes[stage], ahead=number > 1))
            last[key] = (name,)
    return jobs


def _job_name(key: str, number: int, links: int) -> str:
    return key if links == 1 else f"{key} {number}/{links}"


def _data(campaign: Campaign) -> DataVolume:
    branches = campaign.header.branches
    unique, unknown = unique_structures(campaign)
    return DataVolume(len(branches), unique, tuple(unknown), store_bytes(campaign, tuple(branches)))
