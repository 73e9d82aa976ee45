"""Checks and results as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from workflow.check import CheckReport
from workflow.report.facts import gather
from workflow.report.fault import tell_problem
from workflow.report.screen import print_table, screen
from workflow.report.tables import Table
from workflow.report.written import result_tables

_WIDEST = 6  # columns that eighty characters hold


@contextmanager
def sign_of_life(what: str) -> Iterator[Callable[[str], None]]:
    """Show on stderr that something is at work; yields what tells how far it is: in place on a terminal, else line by line."""
    console = Console(stderr=True, highlight=False)
    with console.status(Text(what)) as status:
        yield lambda text: status.update(Text(text)) if console.is_terminal else click.echo(text, err=True)


def print_check(report: CheckReport, path: str) -> None:
    """Print what a check found, faults on stderr."""
    for problem in report.problems:
        tell_problem(problem)
    count = len(report.problems)
    if count:
        click.secho(f"{path}: {count} problem{'s' * (count != 1)}", bold=True, err=True)
    for line in report.found:
        click.echo(f"ok: {line}")
    for line in report.warnings:
        click.secho(f"warning: {line}", fg="yellow")
    for line in report.unchecked:
        click.echo(f"not checked: {line}")
    if not count:
        click.echo(f"{path}: nothing wrong")


def print_results(folder: Path, console: Console | None = None) -> None:
    """Print what a campaign has found: errors beside baselines, fine-tuning, the best candidates."""
    console = console or screen()
    for stage in gather(folder).stages:
        for table in result_tables(stage):
            _print_table(console, table, most=5 if stage.result.get("top") else 100)
        if stage.result.get("flagged") and not stage.result.get("top"):
            line = f"{stage.key}: nothing is ranked; {stage.result['flagged']} candidates hold elements that no branch knows"
            console.print(Text(line, "yellow"))


def _print_table(console: Console, table: Table, most: int) -> None:
    shown = RichTable(box=None, pad_edge=False, header_style="bold", title=table.caption, title_justify="left")
    for name in table.columns[:_WIDEST]:
        width = min(10, max((len(word) for word in name.split()), default=1))
        shown.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold", min_width=width)
    for row in table.rows[:most]:
        shown.add_row(*(Text(cell) for cell in row[:_WIDEST]))
    print_table(shown, console)
