"""A simulated campaign for a terminal, or as JSON: stages, totals with their spread, a timeline, and what was assumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.plan import Plan
from workflow.report.screen import print_table, screen
from workflow.report.timeline import LEGEND, timeline, unit_for
from workflow.simulation.assumptions import POLICIES, Assumptions
from workflow.simulation.summary import Spread, StageSummary, Summary
from workflow.stages.base import hours_text

_NARROWEST, _WIDEST = 60, 160


def print_simulation(summary: Summary, plan: Plan, assumed: Assumptions, console: Console | None = None) -> None:
    """Print what has come of the runs, then what was taken for granted."""
    console = console or screen()
    runs = len(summary.histories)
    head = f"simulated {runs} time{'s' * (runs != 1)}, seed {summary.seed}, policy {assumed.policy}"
    console.print(f"[bold]{plan.name}[/] on [bold]{plan.site.name}[/], {head}", soft_wrap=True)
    print_table(_stages(summary), console)
    console.print()
    console.print(_totals(summary, plan))
    for state in _states(summary):
        console.print(state)
    typical = summary.histories[summary.typical]
    if typical.jobs:
        console.print(Text(f"\nrun {summary.typical + 1}, which ends in the middle of all:\n{LEGEND}", "dim"))
        for line in timeline(typical, min(max(console.width, _NARROWEST), _WIDEST)):
            console.print(line, no_wrap=True)
    console.print(Text("\nassumed, since nobody can know it beforehand (`campaign simulate --help`):", "bold"))
    console.print(_grid(assumptions(plan, assumed)))


def print_simulation_json(summary: Summary, plan: Plan, assumed: Assumptions) -> None:
    """Print everything as JSON, with the jobs of the run that ends in the middle."""
    typical = summary.histories[summary.typical]
    fields: dict[str, Any] = {
        "name": plan.name,
        "site": plan.site.name,
        "seed": summary.seed,
        "runs": len(summary.histories),
        "assumed": {**asdict(assumed), "in_words": assumptions(plan, assumed)},
        "planned_node_hours": plan.node_hours,
        "states": summary.states,
        "totals": {name: asdict(each) for name, each in summary.totals.items()},
        "stages": [asdict(each) for each in summary.stages],
        "typical": {"run": summary.typical + 1, "state": typical.state, "jobs": [asdict(job) for job in typical.jobs]},
    }
    click.echo(json.dumps(fields, indent=1))


def assumptions(plan: Plan, assumed: Assumptions) -> dict[str, str]:
    """Say in words what was taken for granted, by what it is about."""
    rate = assumed.machine_failures_per_day(plan.site)
    each = f": each fails once in {plan.site.nodes / rate:,.0f} days" if rate else ""
    every = f"every {_minutes(assumed.checkpoint_s)}" if assumed.checkpoint_s else "as often as their keys say, else every 5 min"
    return {
        "policy": POLICIES[assumed.policy],
        "waits": f"log-normal from a job's turn on, nine of ten within {assumed.wait_spread:g} times the median; that is not "
        f"known but guessed, unless you or the site's file state it: {'; '.join(_waits(plan, assumed))}",
        "failures": f"{rate:.3g} a day on all {plan.site.nodes:,} nodes of the site, at random{each}; noticed after "
        f"{_minutes(assumed.notice_s)}; a node is back after {assumed.repair_h:g} h",
        "tasks": f"from nodes to work takes {_minutes(assumed.start_s)}, in a short job a quarter of it; what a task can go on "
        f"from it writes {every}, and at each epoch's end; blending begins anew",
        "work": f"{_work(assumed)}; the tasks of a stage take equally long",
        "people": f"resume what has failed and approve what is held after {assumed.answer_h:g} h, for each stage at most "
        f"{assumed.answers} times",
        "the rest": f"other users are in the waits; the driver acts at once; it is given up after {assumed.horizon_days:g} days",
    }


def _waits(plan: Plan, assumed: Assumptions) -> list[str]:
    """Return the median wait of each size of job in its queue."""
    sizes: dict[tuple[str, int], None] = dict.fromkeys((each.queue, each.nodes) for each in plan.stages if each.nodes)
    return [f"{queue}, {nodes:,} nodes {assumed.median_wait_h(plan.site, queue, nodes):.3g} h" for queue, nodes in sizes]


def _work(assumed: Assumptions) -> str:
    told = {name: share for name, share in assumed.work.items() if name}
    others = assumed.work.get("", 1.0)
    rest = "all others " if told else "every stage "
    parts = [f"{name} {share:g} of what fills its planned chain" for name, share in told.items()]
    return ", ".join([*parts, rest + ("as much as fills its planned chain" if others == 1 else f"{others:g} of that")])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.3g} min"


def _grid(facts: dict[str, str]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column()
    for name, text in facts.items():
        grid.add_row(name, Text(text))
    return grid


def _stages(summary: Summary) -> Table:
    unit = unit_for(summary.totals["ends_h"].median)
    waits = unit_for(max((stage.wait_h for stage in summary.stages), default=0.0))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    heads = ("jobs", f"starts\n{unit.name}", f"ends\n{unit.name}", f"wait\n{waits.name}", "used\nnode-hours", "lost\nnode-hours")
    for name in (*heads, "nodes\nfailed", "work\ndone"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in summary.stages:
        table.add_row(*_cells(stage, unit.hours, waits.hours))
    return table


def _cells(stage: StageSummary, unit: float, waits: float) -> list[str | Text]:
    name = stage.name + (f" ×{stage.instances}" if stage.instances > 1 else "")
    times = (f"{stage.starts_h / unit:.1f}", f"{stage.ends_h / unit:.1f}", f"{stage.wait_h / waits:.1f}")
    lost = Text(hours_text(stage.lost), "yellow" if stage.lost else "")
    return [name, f"{stage.jobs:g}", *times, hours_text(stage.used), lost, f"{stage.failures:g}", f"{100 * stage.share:.3g}%"]


def _totals(summary: Summary, plan: Plan) -> Table:
    totals, unit = summary.totals, unit_for(summary.totals["ends_h"].median)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", ">median", ">in eight of ten runs", ""):
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    rows: list[tuple[str, Spread, float, str, str]] = [
        (f"ends after ({unit.name})", totals["ends_h"], unit.hours, ".1f", "from now"),
        ("node-hours used", totals["used"], 1.0, "h", f"of {hours_text(plan.node_hours)} planned"),
        ("node-hours lost", totals["lost"], 1.0, "h", "to failures"),
        ("  of those used (%)", totals["lost_share"], 0.01, ".2f", ""),
        ("utilisation (%)", totals["utilisation"], 0.01, ".1f", "for work that stands"),
        ("work done (%)", totals["share"], 0.01, ".1f", "of what there was to do"),
        ("jobs", totals["jobs"], 1.0, ".0f", ""),
        ("nodes failed", totals["failures"], 1.0, ".0f", "under jobs"),
        ("a person is asked", totals["answers"], 1.0, ".0f", "times"),
    ]
    for name, each, scale, form, note in rows:
        median, low, high = (_number(value / scale, form) for value in (each.median, each.low, each.high))
        table.add_row(name, median, f"{low} to {high}", Text(note, "dim"))
    return table


def _number(value: float, form: str) -> str:
    return hours_text(value) if form == "h" else format(abs(value) if value == 0 else value, f",{form}")


def _states(summary: Summary) -> Iterator[Text]:
    words = {"unfinished": "had not ended when the simulation gave up", "failed": "had failed for good"}
    for state, count in summary.states.items():
        if state in words:
            yield Text(f"{count} of {len(summary.histories)} runs {words[state]}", "bold yellow")
