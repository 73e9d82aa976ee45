"""Many simulated runs of one campaign, summed up: when it ends, what it costs, and how far that varies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workflow.campaign import Campaign
from workflow.simulation.assumptions import HOUR_S, Assumptions
from workflow.simulation.driver import Simulation
from workflow.simulation.history import History, JobPast

_LOW, _HIGH = 0.1, 0.9


@dataclass(frozen=True)
class Spread:
    """A quantity over all runs.

    Attributes:
        median: Half of the runs are below.
        low: A tenth of them is below.
        high: A tenth of them is above.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class StageSummary:
    """A stage over all runs, those that it fans out into together; hours, node-hours, medians.

    Attributes:
        name: Its name in the file; of a variant, `search/egnn`.
        instances: How many there are of it.
        jobs: Jobs that started.
        starts_h: From the begin of the campaign to the start of its first job.
        ends_h: From there to its end.
        wait_h: A job's mean wait, from its turn to its nodes.
        used: Node-hours.
        useful: Of these, for work that stands.
        lost: Of these, lost to failures.
        failures: Nodes that died in its jobs.
        share: Share of its work that was done at its end.
    """

    name: str
    instances: int
    jobs: float
    starts_h: float
    ends_h: float
    wait_h: float
    used: float
    useful: float
    lost: float
    failures: float
    share: float


@dataclass(frozen=True)
class Summary:
    """A campaign over all runs.

    Attributes:
        seed: Seed of them all.
        histories: The runs.
        stages: Those that have jobs, in the order of the plan.
        totals: By name: `ends_h`, `used`, `useful`, `lost`, `idle`, `lost_share`, `utilisation`, `jobs`, `failures`, `answers`,
            `share`.
        states: How many runs ended how.
    """

    seed: int
    histories: tuple[History, ...]
    stages: tuple[StageSummary, ...]
    totals: dict[str, Spread]
    states: dict[str, int]

    @property
    def typical(self) -> int:
        """Return the number of the run that ends in the middle of all."""
        ends = sorted((history.ended, number) for number, history in enumerate(self.histories))
        return ends[(len(ends) - 1) // 2][1]


def simulate(campaign: Campaign, assumed: Assumptions, seed: int, runs: int) -> Summary:
    """Carry a campaign through so many simulated runs; same arguments, same summary.

    Args:
        campaign: Resolved for a site that would refuse none of its stages.
        assumed: What is taken for granted.
        seed: Seed of all runs.
        runs: How many.
    """
    histories = tuple(Simulation(campaign, assumed, f"{seed}/{number}").run() for number in range(runs))
    keys: dict[str, list[str]] = {}
    for instance in campaign.instances():
        keys.setdefault(instance.stage, []).append(instance.key)
    stages = tuple(_stage(name, keys[name], histories) for name in keys if any(each.of(keys[name]) for each in histories))
    totals = {name: spread([figure(each) for each in histories]) for name, figure in _TOTALS.items()}
    return Summary(seed, histories, stages, totals, dict(Counter(each.state for each in histories)))


def spread(values: Sequence[float]) -> Spread:
    """Return median and tenths of some values, between neighbours in proportion."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return Spread(at(0.5), at(_LOW), at(_HIGH))


def used(jobs: Sequence[JobPast]) -> float:
    """Return the node-hours of some jobs."""
    return sum(job.used for job in jobs) / HOUR_S


def spent(jobs: Sequence[JobPast], what: str) -> float:
    """Return the node-hours of some jobs that were `useful`, `lost` or `idle`."""
    return float(sum(getattr(job.spent, what) for job in jobs)) / HOUR_S


def share_of(part: float, whole: float) -> float:
    """Return a share; nothing of nothing is nothing."""
    return part / whole if whole else 0.0


_TOTALS: dict[str, Callable[[History], float]] = {
    "ends_h": lambda history: history.ended / HOUR_S,
    "used": lambda history: used(history.jobs),
    "useful": lambda history: spent(history.jobs, "useful"),
    "lost": lambda history: spent(history.jobs, "lost"),
    "idle": lambda history: spent(history.jobs, "idle"),
    "lost_share": lambda history: share_of(spent(history.jobs, "lost"), used(history.jobs)),
    "utilisation": lambda history: share_of(spent(history.jobs, "useful"), used(history.jobs)),
    "jobs": lambda history: len(history.jobs),
    "failures": lambda history: sum(len(job.failed_at) for job in history.jobs),
    "answers": lambda history: history.answers,
    "share": lambda history: share_of(spent(history.jobs, "useful"), history.asked / HOUR_S),
}


def _stage(name: str, keys: Sequence[str], histories: Sequence[History]) -> StageSummary:
    ran = [jobs for history in histories if (jobs := history.of(keys))]

    def median(figure: Callable[[list[JobPast]], float]) -> float:
        return spread([figure(jobs) for jobs in ran]).median

    return StageSummary(
        name=name,
        instances=len(keys),
        jobs=median(len),
        starts_h=median(lambda jobs: min(job.started for job in jobs) / HOUR_S),
        ends_h=median(lambda jobs: max(job.ended for job in jobs) / HOUR_S),
        wait_h=median(lambda jobs: sum(job.started - job.eligible for job in jobs) / len(jobs) / HOUR_S),
        used=median(used),
        useful=median(lambda jobs: spent(jobs, "useful")),
        lost=median(lambda jobs: spent(jobs, "lost")),
        failures=median(lambda jobs: sum(len(job.failed_at) for job in jobs)),
        share=spread([sum(history.share(key) for key in keys) / len(keys) for history in histories]).median,
    )
