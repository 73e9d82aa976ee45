"""Plans and checks as text for a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.check import CheckReport
from workflow.plan import Plan, PlannedStage, walltime_text
from workflow.report import tables
from workflow.report.facts import gather
from workflow.report.fault import tell_problem

_WIDEST = 6  # columns that eighty characters hold


def print_check(report: CheckReport, path: str) -> None:
    """Print what a check found, faults on stderr."""
    for problem in report.problems:
        tell_problem(problem)
    count = len(report.problems)
    if count:
        click.secho(f"{path}: {count} problem{'s' * (count != 1)}", bold=True, err=True)
    for line in report.found:
        click.echo(f"ok: {line}")
    for line in report.unchecked:
        click.echo(f"not checked: {line}")
    if not count:
        click.echo(f"{path}: nothing wrong")


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print a plan as a table, then refusals and the total against the budget."""
    console = console or Console(highlight=False)
    console.print(f"[bold]{plan.name}[/] on [bold]{plan.site.name}[/]: {plan.site.description}")
    console.print(_table(plan))
    for stage in plan.stages:
        for refusal in stage.refusals:
            console.print(Text.assemble((f"refused: {stage.name}: ", "bold red"), f"{refusal.rule}\n  source: {refusal.source}"))
            console.print(
                f"  This would fit: {refusal.block(plan.site.name)}" if refusal.fits else "  Nothing there would fit.",
                markup=False,
            )
    console.print(_total(plan))


def print_plan_json(plan: Plan) -> None:
    """Print a plan as JSON, its derived figures too."""
    stages = [{**asdict(stage), "node_hours": stage.node_hours} for stage in plan.stages]
    totals = {"node_hours": plan.node_hours, "budget": plan.budget, "beyond_budget": plan.beyond_budget()}
    click.echo(json.dumps({"name": plan.name, "site": plan.site.name, "stages": stages, **totals}, indent=1))


def print_results(folder: Path, console: Console | None = None) -> None:
    """Print what a campaign has found: errors beside baselines, fine-tuning, the best candidates."""
    console = console or Console(highlight=False)
    for stage in gather(folder).stages:
        if stage.result.get("metrics") and stage.status.kind == "train":
            for split, metrics in tables.splits_of(stage.result).items():
                _print_table(console, tables.errors_table(f"Errors of {stage.key} on {split}", metrics))
        if stage.result.get("table"):
            _print_table(console, tables.finetuning_table(stage))
        if stage.result.get("top"):
            _print_table(console, tables.ranking_table(stage), most=5)
        elif stage.result.get("flagged"):
            line = f"{stage.key}: nothing is ranked; {stage.result['flagged']} candidates hold elements that no branch knows"
            console.print(Text(line, "yellow"))


def _print_table(console: Console, table: tables.Table, most: int = 100) -> None:
    shown = Table(box=None, pad_edge=False, header_style="bold", title=table.caption, title_justify="left")
    for name in table.columns[:_WIDEST]:
        width = min(10, max((len(word) for word in name.split()), default=1))
        shown.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold", min_width=width)
    for row in table.rows[:most]:
        shown.add_row(*(Text(cell) for cell in row[:_WIDEST]))
    console.print(shown)


def _table(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for name in ("×", "links", "nodes", "spare", "ranks"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("walltime", justify="right", no_wrap=True)
    table.add_column("node-hours", justify="right", no_wrap=True)
    table.add_column("queue", overflow="fold")
    for stage in plan.stages:
        table.add_row(*_cells(stage))
    return table


def _cells(stage: PlannedStage) -> list[str | Text]:
    if stage.nodes == 0:
        return [stage.name, stage.kind, str(stage.instances), *[""] * 5, "0", stage.queue]
    queue = Text("refused", "bold red") if stage.refusals else Text(stage.queue)
    sizes = [str(each) for each in (stage.instances, stage.links, stage.nodes, stage.spares, stage.ranks)]
    return [stage.name, stage.kind, *sizes, walltime_text(stage.walltime_s), f"{stage.node_hours:,.1f}", queue]


def _total(plan: Plan) -> Text:
    total = Text(f"at most {plan.node_hours:,.1f} node-hours when no link is repeated")
    if plan.budget is None:
        return total.append("; no budget is set")
    total.append(f" of a budget of {plan.budget:,.1f}")
    held = plan.beyond_budget()
    if held:
        total.append(f"\nover budget: {', '.join(held)} would be held", "bold yellow")
    return total
