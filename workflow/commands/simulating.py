"""`campaign simulate`: the campaign carried through queues and failures that are made up."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workflow.commands.options import FILE, SITE
from workflow.face import examples

if TYPE_CHECKING:
    from workflow.campaign import Campaign
    from workflow.simulation.assumptions import Assumptions


class Finite(click.FloatRange):
    """A number within a range that has an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number to count with", param, ctx)
        return number


_LEAST_DAYS = 10
_POSITIVE, _FROM_ZERO = Finite(min=0, min_open=True), Finite(min=0)


class Named(click.ParamType):  # type: ignore[type-arg]  # generic in click's newer stubs only
    """A number, for everything or, as `NAME=NUMBER`, for one thing."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Return name and number; the name of everything is empty."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        try:
            number = float(text)
        except ValueError:
            self.fail(f"'{text}' is no number; write a number, or NAME=NUMBER", param, ctx)
        if not 0 <= number < math.inf:
            self.fail(f"{text} is less than nothing, or without an end", param, ctx)
        return name, number


_OPTIONS = (
    FILE,
    SITE,
    click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same answer."),
    click.option("--runs", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Runs to sum up."),
    click.option(
        "--failures-per-day",
        type=_FROM_ZERO,
        metavar="F",
        help="Node failures that the whole machine sees a day; default: each node fails once in 2,000 days.",
    ),
    click.option("--of-nodes", type=click.IntRange(1), metavar="N", help="It is N nodes that see F failures a day."),
    click.option(
        "--queue-wait",
        type=Named(),
        multiple=True,
        metavar="[QUEUE=]HOURS",
        help="Median wait in a queue; without QUEUE, of a job on the whole machine: smaller ones wait less, by the "
        "square root of their share.  [default: 24]",
    ),
    click.option(
        "--wait-spread",
        type=Finite(min=1),
        default=3.0,
        show_default=True,
        metavar="X",
        help="Nine of ten waits are shorter than X times the median.",
    ),
    click.option(
        "--work",
        type=Named(),
        multiple=True,
        metavar="[STAGE=]SHARE",
        help="Work of a stage, or of all, as a share of what fills its planned chain.  [default: 1]",
    ),
    click.option("--checkpoint-every", type=_POSITIVE, metavar="MIN", help="Between two checkpoints; default: the stages' keys."),
    click.option("--start-up", type=_FROM_ZERO, default=5.0, show_default=True, metavar="MIN", help="From nodes to work."),
    click.option(
        "--notice",
        type=_FROM_ZERO,
        default=5.0,
        show_default=True,
        metavar="MIN",
        help="From a node's death to the end of what it carried.",
    ),
    click.option("--repair", type=_FROM_ZERO, default=24.0, show_default=True, metavar="H", help="A dead node is back."),
    click.option(
        "--answer",
        type=_FROM_ZERO,
        default=12.0,
        show_default=True,
        metavar="H",
        help="Until a person resumes or approves a stage.",
    ),
    click.option(
        "--policy",
        type=click.Choice(["ours", "rerun-stage"]),
        default="ours",
        show_default=True,
        help="What a failure costs; rerun-stage: all that its stage has done, as where whole stages only are known.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)


def _options(command: Any) -> Any:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    short_help="Say when FILE would end and what it would cost, queues and failures made up.",
    epilog=examples(
        "campaign simulate campaigns/sc26.yaml",
        "campaign simulate my.yaml --failures-per-day 20 --runs 100",
        "campaign simulate my.yaml --queue-wait bin1=72 --queue-wait bin2=20",
        "campaign simulate my.yaml --work train=0.7 --policy rerun-stage",
        "campaign simulate my.yaml --json | jq .totals.ends_h",
    ),
)
@_options
def simulate(file: Path, site: str | None, seed: int, runs: int, as_json: bool, **assumed: Any) -> None:
    """Say when FILE would end on a site, how many node-hours it would use and lose, and how busy its nodes would be.

    The campaign is carried through a batch system in memory, by the rules that `campaign run` follows. Waits, failures and
    how long work takes are assumptions, printed with the result. Exit code 2 if the site would refuse a stage.
    """
    from workflow.draft import load_campaign
    from workflow.plan import make_plan
    from workflow.report.planned import print_refusals
    from workflow.report.screen import screen
    from workflow.report.simulated import print_simulation, print_simulation_json
    from workflow.simulation.summary import simulate as carry_out

    campaign = load_campaign(file, site)
    plan = make_plan(campaign)
    if plan.refused:
        print_refusals(plan, screen(stderr=as_json))
        sys.exit(2)
    assumptions = _assumptions(campaign, **assumed)
    summary = carry_out(campaign, assumptions, seed, runs)
    (print_simulation_json if as_json else print_simulation)(summary, plan, assumptions)


def _assumptions(
    campaign: Campaign,
    *,
    failures_per_day: float | None,
    of_nodes: int | None,
    queue_wait: Sequence[tuple[str, float]],
    wait_spread: float,
    work: Sequence[tuple[str, float]],
    checkpoint_every: float | None,
    start_up: float,
    notice: float,
    repair: float,
    answer: float,
    policy: Any,
) -> Assumptions:
    from workflow.campaign import stage_kind
    from workflow.errors import ConfigError
    from workflow.instances import keys_of
    from workflow.queues import queue_named
    from workflow.simulation.assumptions import Assumptions

    if of_nodes is not None and failures_per_day is None:
        raise ConfigError("nodes without failures", "--of-nodes", "Give --failures-per-day too.")
    waits, shares = dict(queue_wait), dict(work)
    for queue in filter(None, waits):
        queue_named(campaign.site, queue)
    jobless = {each.key for each in campaign.instances() if stage_kind(each.spec.kind).on_login}
    for stage in filter(None, shares):
        if jobless.issuperset(keys_of(campaign, stage, "--work")):
            raise ConfigError(f"stage '{stage}' is done on the login node", "--work", "Name a stage that has jobs.")
    if not all(shares.values()):
        raise ConfigError("a stage without work", "--work", "Give a share above zero.")
    made = Assumptions(
        policy=policy,
        failures_per_day=failures_per_day,
        of_nodes=of_nodes,
        repair_h=repair,
        notice_s=60 * notice,
        start_s=60 * start_up,
        whole_wait_h=waits.pop("", Assumptions.whole_wait_h),
        waits_h=waits,
        wait_spread=wait_spread,
        work=shares,
        checkpoint_s=60 * checkpoint_every if checkpoint_every else None,
        answer_h=answer,
    )
    most = campaign.site.nodes / _LEAST_DAYS
    if made.machine_failures_per_day(campaign.site) > most:
        what = f"no node would live for {_LEAST_DAYS} days"
        raise ConfigError(what, "--failures-per-day", f"Give at most {most:g} for all {campaign.site.nodes:,} nodes.")
    return made
