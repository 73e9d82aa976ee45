"""A plan as text for a terminal, or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.plan import Plan, PlannedStage
from workflow.releases import Round
from workflow.report.screen import print_table, screen
from workflow.stages.base import hours_text, walltime_text

_COLUMNS = ("links", "nodes", "spare", "ranks", "walltime", "node-hours", "queue")
_SHOWN = 6  # jobs of a round on one line
_ALIKE = 4  # rounds of the same chains that share a line


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print a plan: stages, what each needs, the order of release, refusals, and the total against the budget."""
    console = console or screen()
    console.print(f"[bold]{plan.name}[/] on [bold]{plan.site.name}[/]: {plan.site.description}", soft_wrap=True)
    print_table(_table(plan), console)
    for line in (*_data(plan), *_details(plan), *_rounds(plan)):
        console.print(line, soft_wrap=True, markup=False)
    print_refusals(plan, console)
    machine = f"{plan.site.nodes:,} node{'s' * (plan.site.nodes != 1)} of the machine are this campaign's alone"
    longest = f"{walltime_text(plan.longest_s)} from begin to end if every job takes its walltime and the {machine}"
    console.print(longest, soft_wrap=True, markup=False)
    console.print(_total(plan), soft_wrap=True)


def print_refusals(plan: Plan, console: Console) -> None:
    """Print what the site would refuse, and what would fit."""
    for stage in plan.stages:
        for refusal in stage.refusals:
            rule = Text.assemble((f"refused: {stage.name}: ", "bold red"), f"{refusal.rule}\n  source: {refusal.source}")
            console.print(rule, soft_wrap=True)
            console.print(
                f"  This would fit: {refusal.block(plan.site.name)}" if refusal.fits else "  Nothing there would fit.",
                markup=False,
                soft_wrap=True,
            )


def print_plan_json(plan: Plan) -> None:
    """Print a plan as JSON, its derived figures too."""
    stages = [{**asdict(stage), "node_hours": stage.node_hours, "trial_s": stage.trial_s} for stage in plan.stages]
    totals: dict[str, Any] = {
        "node_hours": plan.node_hours,
        "budget": plan.budget,
        "beyond_budget": plan.beyond_budget(),
        "longest_s": plan.longest_s,
        "rounds": [asdict(each) for each in plan.rounds],
        "data": asdict(plan.data),
        "paper": plan.paper.model_dump() if plan.paper else None,
    }
    click.echo(json.dumps({"name": plan.name, "site": plan.site.name, "stages": stages, **totals}, indent=1))


def _table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "queue" else "right", no_wrap=True)
    for stage in plan.stages:
        table.add_row(*_cells(stage))
    return table


def _cells(stage: PlannedStage) -> list[str | Text]:
    name = stage.name + (f" ×{stage.instances}" if stage.instances > 1 else "")
    if stage.nodes == 0:
        return [name, *[""] * 5, "0", stage.queue]
    queue = Text("refused", "bold red") if stage.refusals else Text(stage.queue)
    sizes = (f"{each:,}" for each in (stage.links, stage.nodes, stage.spares, stage.ranks))
    return [name, *sizes, walltime_text(stage.walltime_s), hours_text(stage.node_hours), queue]


def _data(plan: Plan) -> list[str]:
    data = plan.data
    if not data.unique:
        return []
    branches = f"{data.branches} branch{'es' * (data.branches != 1)}"
    known = f"{branches}: at most {_millions(data.unique)} unique structures, as published or limited (your files may hold fewer)"
    if data.unknown:
        known += f", not counting {', '.join(data.unknown)}"
    if data.store_bytes is not None:
        known += f"; about {_size(data.store_bytes)} as stores"
    paper = plan.paper
    if not paper or not paper.structures:
        return [known]
    return [known, f"{paper.title} counts {_millions(paper.structures)}" + (f" ({paper.note})" if paper.note else "")]


def _details(plan: Plan) -> list[str]:
    """Return what a table has no room for: devices, trials, bytes that every node gets; stages alike share a line."""
    alike: dict[str, list[str]] = {}
    for stage in plan.stages:
        alike.setdefault("; ".join(_facts(stage, plan)), []).append(stage.name)
    return [f"{', '.join(names)}: {facts}" for facts, names in alike.items() if facts]


def _facts(stage: PlannedStage, plan: Plan) -> list[str]:
    if not stage.nodes:
        return []
    facts = [f"{stage.devices:,} device{'s' * (stage.devices != 1)}"]
    if stage.slots:
        margin = f" (the last {walltime_text(stage.walltime_s - stage.working_s)} of a job are for stopping)"
        each = f", {walltime_text(stage.trial_s)} for each of {stage.evaluations}{margin}" if stage.trial_s else ""
        facts.append(f"{stage.slots} trial{'s' * (stage.slots != 1)} at a time{each}")
    if stage.trainings:
        times = f"{stage.instances} × " if stage.instances > 1 else ""
        facts.append(f"{times}{stage.trainings:,} trainings: {stage.product}")
    if stage.reads:
        facts.append(_staged(stage.staged_bytes, plan.site.node.local_gb))
    return facts


def _staged(size: int | None, room_gb: float | None) -> str:
    if size is None:
        return "bytes to stage not known before conversion"
    if room_gb is not None and size > room_gb * 1e9:
        return f"about {_size(size)} read where they lie (a node has room for {_size(room_gb * 1e9)})"
    return f"about {_size(size)} staged to every node"


def _rounds(plan: Plan) -> list[str]:
    """Return the order in which the site's job limits let the jobs go; nothing where there is one job at a time."""
    if all(len(each.jobs) <= 1 and not each.waiting for each in plan.rounds):
        return []
    if plan.refused:
        return ["order of release: not before every stage fits"]
    lines = [
        "order of release; a line follows when the jobs before it have started, or ended where it needs them or their places:"
    ]
    number = 1
    for _, group in groupby(plan.rounds, key=_chains):
        alike = list(group)
        if len(alike) < _ALIKE:
            lines += [f"{number + place:>3}  {_names(each.jobs)}{_held(each)}" for place, each in enumerate(alike)]
        else:
            last = number + len(alike) - 1
            ends = f"{_names(alike[0].jobs)} to {_names(alike[-1].jobs)}, one after the other"
            lines.append(f"{number:>3}-{last}  {ends}{_held(alike[0])}")
        number += len(alike)
    return lines


def _chains(each: Round) -> tuple[tuple[str, ...], int, str]:
    """Return what rounds have in common that are links of the same chains."""
    return tuple(name.partition(" ")[0] for name in each.jobs), len(each.waiting), each.limit


def _names(jobs: tuple[str, ...]) -> str:
    more = len(jobs) - _SHOWN
    return ", ".join(jobs[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _held(each: Round) -> str:
    return f"  ({len(each.waiting)} more wait: {each.limit})" if each.waiting else ""


def _total(plan: Plan) -> Text:
    most, once = f"at most {_exactly(plan.node_hours)}", "when no link is repeated"
    if plan.budget is None:
        return Text(f"{most} node-hours {once}; no budget is set")
    total = Text(f"{most} of a budget of {_exactly(plan.budget)} node-hours, {once}")
    held = plan.beyond_budget()
    if held:
        total.append(f"\nover budget: {', '.join(held)} would be held until `campaign approve`", "bold yellow")
    return total


def _exactly(node_hours: float) -> str:
    """Return node-hours so that a sum just over its budget does not look like it."""
    return hours_text(node_hours) if node_hours < 10 else f"{round(node_hours, 2):,.12g}"


def _millions(count: float) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,.0f}"


def _size(count: float) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"
